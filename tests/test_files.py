"""Files are written whole or not at all, and are read as plain data only."""

import os
import resource
import signal
import stat

import pytest
import yaml

import jaxinit
from jaxinit import _files, _yaml

GOOD = jaxinit.Rules({f"layer{i}": jaxinit.RandomNormal(stddev=0.02) for i in range(9)})
SAVERS = {
    "rules.json": lambda path: GOOD.save(path),
    "rules.yaml": lambda path: GOOD.save(path),
    "manifest.json": lambda path: jaxinit.manifest(
        {"w": jaxinit.Ones()(None, (2,))}
    ).save(path),
}


@pytest.mark.parametrize("name", SAVERS)
def test_a_full_disk_leaves_the_old_file(tmp_path, name):
    path = tmp_path / name
    save = SAVERS[name]
    save(path)
    size = path.stat().st_size
    path.write_text("old")
    for limit in (0, 1, size // 2, size - 1):
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
            with pytest.raises(OSError):
                save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, ignored)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == [name]
    save(path)
    assert path.stat().st_size == size


def test_a_reader_finds_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("old")
    with path.open() as reader:
        GOOD.save(path)
        assert reader.read() == "old"
    assert jaxinit.Rules.load(path) == GOOD


def test_data_is_flushed_before_the_file_is_renamed(tmp_path, monkeypatch):
    order = []
    flush, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("flush"), flush(fd)))
    monkeypatch.setattr(os, "replace", lambda *a: (order.append("name"), rename(*a)))
    GOOD.save(tmp_path / "rules.json")
    assert order == ["flush", "name", "flush"]  # the last one is of the folder


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_mode_of_a_file_is_kept(tmp_path, mode):
    path = tmp_path / "rules.json"
    path.touch()
    path.chmod(mode)
    GOOD.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_usual_mode(tmp_path):
    (tmp_path / "a").touch()
    GOOD.save(tmp_path / "rules.json")
    modes = [(tmp_path / name).stat().st_mode for name in ("a", "rules.json")]
    assert modes[0] == modes[1]


def test_links_are_followed(tmp_path):
    real = tmp_path / "real" / "rules.json"
    real.parent.mkdir()
    for existing in (False, True):
        link = tmp_path / f"{existing}.json"
        link.symlink_to("real/rules.json")
        GOOD.save(link)
        assert link.is_symlink() and jaxinit.Rules.load(real) == GOOD


def test_only_regular_files_are_replaced(tmp_path):
    folder, pipe = tmp_path / "folder.json", tmp_path / "pipe.json"
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (folder, pipe):
        with pytest.raises(OSError, match="not a regular file"):
            GOOD.save(path)
    with pytest.raises(FileNotFoundError):
        GOOD.save(tmp_path / "none" / "rules.json")
    assert pipe.is_fifo() and not any(folder.iterdir())


def test_a_file_with_a_long_name_is_written(tmp_path):
    path = tmp_path / ("r" * 250 + ".json")
    GOOD.save(path)
    assert jaxinit.Rules.load(path) == GOOD


# PyYAML would take a minute to write the text before its length is known.
@pytest.mark.parametrize(("suffix", "length"), [("json", 2**25), ("yaml", 2**25 + 1)])
def test_data_that_could_not_be_read_is_not_written(tmp_path, suffix, length):
    rules = jaxinit.Rules({"a\ud800": "zeros"})
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        rules.save(tmp_path / f"rules.{suffix}")
    with pytest.raises(ValueError, match="longer than"):
        _files.write(tmp_path / f"a.{suffix}", ["x" * length])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_every_character_makes_the_round_trip(tmp_path, suffix):
    data = {
        "\x1b\x00\x85\u2028é😀 '\"\n\t#:": ["0x1f", "1e3", "~", "yes", "", "2020-01-01"]
    }
    breaks = ["\x85", "a\x85\u2028", "\u2029 b", "é\u2028\n😀"]
    data |= dict.fromkeys(breaks, breaks)
    _files.write(tmp_path / f"a.{suffix}", data)
    assert _files.read(tmp_path / f"a.{suffix}") == data


PLAIN = """
text: [a, 'b', "c", |
  d
  , !!str 1, 1e-3, 0o7]
numbers: [1, -2, 0x1f, 017, 0b11, 1_000, 1.5, 1.0e-3, .inf, -.inf, 1:30, !!float 2]
others: [true, No, on, null, ~, , !!bool "yes"]
base: &base {a: 1, b: 2}
more: [*base, {<<: *base, b: 3}, {b: 4, <<: [{c: 5, a: 0}, *base]}, {"<<": 1}]
"""


def test_yaml_is_read_as_pyyaml_reads_it():
    text = PLAIN.replace("  , !!str", "  , !!str").replace(", ,", ", null,")
    text = text.replace("|\n  d\n ", "d")
    assert _yaml.loads(text) == yaml.safe_load(text)
    assert _yaml.loads("") is None is yaml.safe_load("")
    assert _yaml.loads("%YAML 1.1\n--- [1]\n...\n") == [1]
    assert _yaml.loads("a: 2020-01-01") == {"a": "2020-01-01"}  # a date is text


BOMB = "- &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"- &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20)
)
BAD_YAML = {
    "bool": ("a: !!bool x", "line 1, column 4: 'x' is not a valid bool"),
    "int": ("\na: !!int ''", "line 2, column 4: '' is not a valid int"),
    "sign": ("a: !!int '-'", "'-' is not a valid int"),
    "float": ("a: !!float ''", "'' is not a valid float"),
    "minutes": ("a: !!float 9" + ":59" * 300, "is not a valid float"),
    "null": ("a: !!null [x]", "the tag"),
    "timestamp": ("a: !!timestamp x", "timestamp' is not read"),
    "binary": ("a: !!binary x", "binary' is not read"),
    "set": ("a: !!set {x}", "set' is not read"),
    "python": ("a: !!python/object/apply:os.system [id]", "os.system' is not read"),
    "own": ("!a b", "the tag '!a' is not read"),
    "hex": ("a: 0x" + "f" * 6000, "line 1, column 4: '0xf.*f' is not a valid int"),
    "digits": ("a: " + "1" * 6000, "is not a valid int"),
    "twice": ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is there twice"),
    "number": ("1: a", "the key 1 is not text: quote it"),
    "list": ("? [a]\n: b", "is not text"),
    "merge": ("<<: 3", "'<<' takes a mapping"),
    "two": ("--- 1\n--- 2", "line 2, column 1: a second document"),
    "alias": ("rules: {**/bias: zeros}", "column 10: .*alias.* Patterns need quotes"),
    "undefined": ("a: *b", "the alias 'b' is undefined"),
    "inside itself": ("&a [*a]", "the alias 'a' is undefined"),
    "bomb": (BOMB, "line 5, column .*: aliases repeat more than 100000 values"),
    "deep": ("[" * 101 + "]" * 101, "column 101: nested more than 100 levels"),
    "deep mappings": ("{a: " * 101, "nested more than 100 levels"),
    "very deep": ("[" * 10**6, "nesting|levels"),
    "escape": ("a: \x1b[2J", "control characters|special characters"),
    "half": ('"\\uD800": 1', "surrogate|invalid Unicode"),
    "unfinished": ("a: [", "line 2, column 1"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_refused_yaml(tmp_path, name):
    text, message = BAD_YAML[name]
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as e:
        _files.read(path)
    said = str(e.value)
    assert said.startswith(str(path)) and said.isprintable() and len(said) < 500


def test_without_the_fast_parser(monkeypatch):
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert _yaml.loads("a: [1, *b]".replace("*b", "x")) == {"a": [1, "x"]}
    for text, _ in BAD_YAML.values():
        with pytest.raises(ValueError):
            _files.yaml_loads(text[:3000])


def test_refused_json(tmp_path):
    path = tmp_path / "a.json"
    for data, message in [
        (b"{", "not JSON: .*line 1 column 2"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        (b'{"a": "\\ud800"}', "a: .*half of a surrogate pair"),
        (b'{"a": {"b": {"\\udfff": 1}}}', "a/b: .*half of a surrogate pair"),
        (
            b'{"a\\u001b": ' + b"[" * 301 + b"]" * 301 + b"}",
            r"a\\x1b/0/.*301|300 levels",
        ),
        (b"[" * 10**6, "levels deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"a": "\xff"}', "byte 7 is no UTF-8"),
    ]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as e:
            _files.read(path)
        said = str(e.value)
        assert said.startswith(str(path)) and said.isprintable() and len(said) < 500
    assert _files.loads('{"a": "\\ud83d\\ude00"}') == {"a": "😀"}  # a whole pair


def test_a_file_without_an_end_is_refused(tmp_path):
    path = tmp_path / "rules.json"
    path.symlink_to("/dev/zero")
    for load in (jaxinit.Rules.load, jaxinit.Manifest.load):
        with pytest.raises(ValueError, match="the text is longer than"):
            load(path)


def test_line_endings_are_read_as_one(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("a: |\r\n  \u00e9\r\n  c\r\n".encode())
    assert _files.read(path) == {"a": "\u00e9\nc\n"}
    path.write_bytes(b"a: b\r\n" + b"x" * 10**5 + b"\xff")
    with pytest.raises(ValueError, match="byte 100006 is no UTF-8"):
        _files.read(path)
