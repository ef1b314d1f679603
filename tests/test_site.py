"""The built site in a browser: every page, its pictures, its search, on a phone."""

import contextlib
import functools
import http.server
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest

import browser

pytestmark = pytest.mark.site

ROOT = pathlib.Path(__file__).parent.parent
SITE = ROOT / "site"
SIZES = {"wide": {"width": 1400}, "phone": {"width": 360, "height": 700}}
WIDE = SIZES["wide"]


@pytest.fixture(scope="module")
def site():
    """The address of the site, built as `make docs` builds it and served here."""
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("no Zensical here; `make test-site` installs the group docs")
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in (
        [sys.executable, "tools/gallery.py"],
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
    ):
        built = subprocess.run(
            command, cwd=ROOT, env=settings, capture_output=True, text=True
        )
        assert built.returncode == 0, built.stdout + built.stderr
    handler = functools.partial(Handler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Prints no line for each request."""

    def copyfile(self, source, outputfile):
        with contextlib.suppress(ConnectionError):  # a tab that went elsewhere
            super().copyfile(source, outputfile)


@pytest.fixture(scope="module")
def chromium(site):
    with browser.started() as found:
        yield found


def built_pages():
    pages = [p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html")]
    return sorted(set(pages) - {"404.html"})


def background(page):
    """The brightness of the page behind its text, from 0 to 255."""
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3


def test_every_page_of_docs_is_built(site):
    sources = {p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")}
    assert {p.with_suffix(".html").as_posix() for p in sources} == {*built_pages()}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_is_whole(site, chromium, size, dark):
    """No error, no missing picture, no other host, no scrolling sideways."""
    for name in built_pages():
        page = chromium.open(f"{site}/{name}", dark=dark, **SIZES[size])
        assert page.errors() == [], name
        assert page.sideways() == 0, name
        pictures = "[...document.images].map(x => [x.getAttribute('src'), {}])"
        for source, width in page.evaluate(pictures.format("x.naturalWidth")):
            assert width > 0, (name, source)
        for address in page.requests():
            assert address.startswith((site, "data:")), (name, address)
        assert background(page) < 60 if dark else background(page) > 200, name
        headings = "document.querySelectorAll('h1').length"
        assert page.evaluate(headings) == 1, name
        page.call("Page.close")


@pytest.mark.parametrize("size", SIZES)
def test_the_switch_changes_the_scheme(site, chromium, size):
    """It goes from the system's scheme, dark here, to light, to dark and back."""
    page = chromium.open(f"{site}/index.html", dark=True, **SIZES[size])
    assert background(page) < 60
    for is_dark in (False, True, True):
        page.evaluate(
            "[...document.querySelectorAll('label[for^=__palette]')]"
            ".find(x => !x.hidden).click()"
        )
        page.evaluate("new Promise(done => setTimeout(done, 500))")
        assert background(page) < 60 if is_dark else background(page) > 200
        other = chromium.open(f"{site}/rules.html", dark=True, **SIZES[size])
        assert background(other) < 60 if is_dark else background(other) > 200
        assert page.errors() == other.errors() == []
    page.evaluate("localStorage.clear()")


def test_search_finds_a_class_in_the_reference(site, chromium):
    page = chromium.open(f"{site}/index.html", **WIDE)
    page.evaluate("document.querySelector('.md-search__button').click()")
    page.evaluate("new Promise(done => setTimeout(done, 300))")
    page.call("Input.insertText", text="HeNormal")
    found, end = [], time.monotonic() + 20
    while not found and time.monotonic() < end:
        found = page.evaluate(
            "[...(document.activeElement.shadowRoot?.querySelectorAll('a') ?? [])]"
            ".map(x => x.getAttribute('href'))"
        )
    assert any("reference/variance.html" in x for x in found[:3]), found
    assert any(x.endswith("#jaxinit.HeNormal") for x in found), found
    assert page.errors() == []


def test_a_broken_link_and_a_wrong_name_fail_the_build(site, tmp_path):
    """The strict mode sees what `make docs` promises."""
    settings = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[0]
    settings = settings.replace("tools/", f"{ROOT}/tools/")
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "docs").mkdir()
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    texts = {
        "::: jaxinit.Zeros": 0,
        "[x](none.md)": 1,
        "[x](#none)": 1,
        "[x][jaxinit.none]": 1,
        "::: jaxinit.none": 1,
    }
    for text, code in texts.items():
        (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{text}\n")
        built = subprocess.run(
            build, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert (built.returncode != 0) == bool(code), text + built.stdout + built.stderr
