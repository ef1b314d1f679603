"""``make release-check``: the checks that need no build."""

import importlib
import pathlib
import shutil
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The module, which reads copies of the texts."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    module = importlib.import_module("release_check")
    for name in ("CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_changelog_and_citation_agree(tool):
    tool.check_texts(VERSION)


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("CITATION.cff", f"version: {VERSION}", "version: 0.0.1", "CITATION.cff cites"),
        ("CITATION.cff", 'released: "2', 'released: "1', "the date of the changelog"),
        ("CHANGELOG.md", f"## {VERSION} (", "## 0.0.1 (", "the newest release"),
        ("CHANGELOG.md", "## Unreleased", "## Soon", "opens with Unreleased"),
    ],
)
def test_a_text_that_differs_fails(tool, name, old, new, message):
    path = tool.ROOT / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SystemExit, match=message):
        tool.check_texts(VERSION)


def test_a_missing_interpreter_fails_unless_allowed(tool, monkeypatch, capsys):
    paths = {"3.11": "/bin/python3.11", "3.13": None}
    monkeypatch.setattr(tool, "find_python", paths.get)
    monkeypatch.delenv("ALLOW_MISSING_PYTHON", raising=False)
    with pytest.raises(
        SystemExit, match=r"3\.13 was not found; .*ALLOW_MISSING_PYTHON"
    ):
        tool.find_pythons()
    monkeypatch.setenv("ALLOW_MISSING_PYTHON", "1")
    assert tool.find_pythons() == {"3.11": "/bin/python3.11"}
    assert "NOT RUN: Python 3.13" in capsys.readouterr().out
