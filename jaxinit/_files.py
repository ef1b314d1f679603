"""Reads and writes plain data in JSON and YAML files."""

import contextlib
import errno
import io
import json
import os
import secrets
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any

from . import _yaml
from ._checks import printable, short

_TEXT = 2**25  # most characters of a file
_PIECE = 2**20  # bytes
_DEPTH = 300  # most levels of nesting; a model inside a Keras model takes four
_BREAKS = frozenset("\x85\u2028\u2029")  # line breaks of YAML, not of JSON


def read(path: str | Path) -> Any:
    """Returns the plain data in a .json, .yaml or .yml file.

    Raises:
        ValueError: If the file is invalid, repeats a key, is too deep or too long, or
            has another suffix. The message names the file and the place in it.
        ImportError: If the file is YAML and PyYAML is not installed.
    """
    path = as_path(path)
    parse = yaml_loads if _is_yaml(path) else loads
    with in_file(path):
        return parse(read_text(path))


def read_text(path: Path) -> str:
    """Returns the text of a UTF-8 file, with any line endings.

    Raises:
        ValueError: If it is not UTF-8, or too long. No more of it is read then.
    """
    data = bytearray()
    with path.open("rb") as file:
        # In pieces, because read(n) takes n bytes of memory for a short file as well.
        while piece := file.read(_PIECE):
            data += piece
            _check_length(-(-len(data) // 4))  # a character takes up to four bytes
    try:
        return io.TextIOWrapper(io.BytesIO(data), "utf-8").read()
    except UnicodeDecodeError as e:
        raise ValueError(f"byte {e.start} is no UTF-8.") from None


@contextlib.contextmanager
def in_file(path: str | Path) -> Generator[None]:
    """Puts the name of the file in front of the text of a ValueError or TypeError."""
    try:
        yield
    except (ValueError, TypeError) as e:
        kind = TypeError if isinstance(e, TypeError) else ValueError
        raise kind(f"{printable(str(path))}: {e}") from None


def write(path: str | Path, data: Any, comment: str = "") -> None:
    """Writes plain data to a .json, .yaml or .yml file, whole or not at all.

    JSON writes an infinite number as ``Infinity``, which Python can read.

    Args:
        path: The file.
        data: The data.
        comment: Text for the head of a YAML file; JSON has no comments.

    Raises:
        ValueError: If `read` would refuse the data.
        OSError: If the file cannot be written. An existing file then stays unchanged.
    """
    path = as_path(path)
    _check(data)
    if _is_yaml(path):
        yaml = _yaml.import_yaml()
        lines = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        if not _BREAKS.isdisjoint(text):  # PyYAML writes these wrong, unless escaped
            text = yaml.safe_dump(data, sort_keys=False)
        text = lines + text
    else:
        text = json.dumps(data, indent=2) + "\n"
    _check_length(len(text))
    write_whole(path, text.encode())


def write_whole(path: str | Path, data: bytes) -> None:
    """Writes a file whole or not at all, even if the machine crashes.

    The data is written to another file in the same folder, flushed to the disk, and
    renamed. An existing file keeps its mode. A symbolic link has its target replaced.

    Raises:
        OSError: If the file cannot be written. An existing file then stays unchanged.
    """
    target = os.path.realpath(path)
    mode = None
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(target).st_mode
    if mode is not None:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    folder = os.path.dirname(target)
    part = os.path.join(folder, f".jaxinit-{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            if mode is not None:
                os.chmod(part, stat.S_IMODE(mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    _flush_folder(folder)


def loads(text: str) -> Any:
    """Returns the plain data in a JSON text.

    Raises:
        ValueError: If the text is not JSON, is too long or too deep, repeats a key, or
            contains half of a surrogate pair.
    """
    _check_length(len(text))
    try:
        data = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(_too_deep("the text")) from None
    except json.JSONDecodeError as e:
        raise ValueError(f"the text is not JSON: {e}.") from None
    _check(data)
    return data


def yaml_loads(text: str) -> Any:
    """Returns the plain data in a YAML text; the limits are those of `loads`."""
    _check_length(len(text))
    data = _yaml.loads(text)
    _check(data)
    return data


def as_path(path: Any) -> Path:
    """Returns a Path; refuses what is neither text nor a path."""
    if isinstance(path, str | os.PathLike):
        return Path(path)
    raise TypeError(f"The path of a file must be a str or a Path; got {short(path)}.")


def _is_yaml(path: Path) -> bool:
    if path.suffix not in (".json", ".yaml", ".yml"):
        name = printable(str(path))
        raise ValueError(f"{name} must end in .json, .yaml or .yml.")
    return path.suffix != ".json"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {short(name)} is there twice.")
            seen.add(name)
    return made


def _check_length(length: int) -> None:
    if length > _TEXT:
        raise ValueError(f"the text is longer than {_TEXT} characters.")


def _check(data: Any) -> None:
    """Refuses data that is too deep or long, or has text that UTF-8 cannot encode."""
    length = 0  # of all strings
    level: list[tuple[Any, Any]] = [(data, ())]  # values and places, last name first
    for _ in range(_DEPTH):
        below: list[tuple[Any, Any]] = []
        for value, place in level:
            if isinstance(value, str):
                _check_text(value, place)
                length += len(value)
            elif isinstance(value, dict):
                for name, inner in value.items():
                    if isinstance(name, str):
                        _check_text(name, place)
                        length += len(name)
                    if isinstance(inner, str | dict | list):
                        below.append((inner, (name, place)))
            elif isinstance(value, list):
                for i, inner in enumerate(value):
                    if isinstance(inner, str | dict | list):
                        below.append((inner, (i, place)))
        _check_length(length)  # before YAML takes a minute to write it
        if not below:
            return
        level = below
    raise ValueError(_too_deep(_name(level[0][1])))


def _check_text(text: str, place: Any) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{_name(place)}: {short(text)} contains half of a surrogate pair, which "
            "is not a character."
        ) from None


def _too_deep(what: str) -> str:
    return f"{what} is nested more than {_DEPTH} levels deep."


def _name(place: Any) -> str:
    """Returns the place of a value in the data, as "rules/0/glob"."""
    names: list[str] = []
    while place:
        name, place = place
        names.append(printable(str(name), 60))
    return printable("/".join(reversed(names))) or "the text"


def _flush_folder(folder: str) -> None:
    """Flushes the new name of a file to the disk, if the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
