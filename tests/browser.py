"""Headless Chromium for tests, driven through the pipe of its DevTools.

    with browser.started() as chromium:  # skips the test where there is no Chromium
        page = chromium.open("file:///report.html", width=360, dark=True)
        assert page.errors() == [] and page.sideways() == 0
        assert page.evaluate("document.title") == "A report"

The commands are those of https://chromedevtools.github.io/devtools-protocol.
"""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome"
SECONDS = 60  # for an answer
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
)


@contextlib.contextmanager
def started() -> Iterator["Browser"]:
    """A browser, which ends with the block; skips the test where none is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here; Debian's package is chromium")
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )
        argv = [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        if os.geteuid() == 0:  # whom Chromium's sandbox refuses
            argv.insert(1, "--no-sandbox")
        theirs_in, ours_out = _pipe(stack)
        ours_in, theirs_out = _pipe(stack)
        # JAX warns of forks in its threads, which a spawn is not.
        child = os.posix_spawn(
            path,
            argv,
            os.environ | {"TMPDIR": profile},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs_in, 3),
                (os.POSIX_SPAWN_DUP2, theirs_out, 4),
            ],
            setpgroup=0,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(ours_in, ours_out)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # of its own group, children included
            os.waitpid(child, 0)


def _pipe(stack: contextlib.ExitStack) -> list[int]:
    """Both ends of a pipe, at numbers that the browser's own, 3 and 4, do not meet."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
        stack.callback(_close, ends[-1])
    return ends


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


class Browser:
    """A running browser.

    Attributes:
        events: What it told of its own accord.
    """

    def __init__(self, answers: int, commands: int):
        self.events: list[dict[str, Any]] = []
        self._answers, self._commands = answers, commands
        self._numbers = itertools.count(1)
        self._rest = b""

    def open(self, url: str, *, width=1200, height=900, dark=False) -> "Page":
        """Opens an address in a tab of its own and waits until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"], width)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        found = page.call("Page.navigate", url=url)
        assert "errorText" not in found, f"{url}: {found['errorText']}"
        page.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() "
            ": addEventListener('load', () => done()))"
        )
        return page

    def call(self, method: str, session: str | None = None, /, **params: Any) -> Any:
        """Sends a command and returns its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        answer = self._wait(lambda message: message.get("id") == number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _wait(self, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while True:
            while b"\0" in self._rest:
                text, _, self._rest = self._rest.partition(b"\0")
                message = json.loads(text)
                if is_wanted(message):
                    return message
                self.events.append(message)
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self._answers], [], [], left)
            assert ready, f"no answer from the browser in {SECONDS} s"
            data = os.read(self._answers, 2**20)
            assert data, "the browser ended"
            self._rest += data


class Page:
    """A tab of a browser."""

    def __init__(self, browser: Browser, session: str, width: int):
        self._browser, self._session, self._width = browser, session, width

    def call(self, method: str, **params: Any) -> Any:
        """Sends a command to this tab and returns its result."""
        return self._browser.call(method, self._session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; that of a promise when it is there."""
        found = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        details = found.get("exceptionDetails")
        assert details is None, f"{expression}: {_text_of(details)}"
        return found["result"].get("value")

    def type(self, selector: str, text: str) -> None:
        """Puts text into a field, as a keyboard does."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def screenshot(self, path: str | Path) -> None:
        """Writes a PNG of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def sideways(self) -> int:
        """The pixels by which the page is wider than its window."""
        width = self.evaluate("document.documentElement.scrollWidth")
        return max(0, width - self._width)

    def requests(self) -> list[str]:
        """The addresses that the page asked for."""
        found = self._told("Network.requestWillBeSent")
        return [params["request"]["url"] for params in found]

    def errors(self) -> list[str]:
        """Exceptions, errors on the console and requests that failed."""
        self.evaluate("0")  # what happened before has been told then
        found = [
            _text_of(params["exceptionDetails"])
            for params in self._told("Runtime.exceptionThrown")
        ]
        for params in self._told("Runtime.consoleAPICalled"):
            if params["type"] in ("error", "assert"):
                found.append(" ".join(str(x.get("value")) for x in params["args"]))
        for params in self._told("Log.entryAdded"):
            entry = params["entry"]
            if entry["level"] == "error":
                found.append(f"{entry['text']} {entry.get('url', '')}")
        for params in self._told("Network.loadingFailed"):
            found.append(f"a request failed: {params['errorText']}")
        return found

    def _told(self, method: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]


def _text_of(details: dict[str, Any]) -> str:
    thrown = details.get("exception", {})
    return thrown.get("description") or details["text"]
