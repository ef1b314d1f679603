"""The examples in docstrings, README.md and docs/ run and print what they show."""

import dataclasses
import doctest
import importlib
import inspect
import pathlib
import re
import shlex
import sys
import tomllib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
import models
from jaxinit.__main__ import main
from jaxinit.initializers import registry

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = pathlib.Path(jaxinit.__file__).parent
MODULES = sorted(
    ".".join(("jaxinit", *p.relative_to(PACKAGE).with_suffix("").parts))
    for p in PACKAGE.rglob("*.py")
    if p.name not in ("__init__.py", "__main__.py")
)
README = ROOT / "README.md"
DOCS = ROOT / "docs"
FRAMEWORKS = sorted(DOCS.glob("frameworks/*.md"))
REFERENCE = sorted(DOCS.glob("reference/*.md"))
PAGES = [README, *sorted(DOCS.glob("*.md")), *FRAMEWORKS]
NAMES = {"jax": jax, "jnp": jnp, "np": np, "jaxinit": jaxinit}
NAMES |= {"dataclasses": dataclasses}


@pytest.mark.parametrize("module", ["jaxinit", *MODULES])
def test_docstrings(module, monkeypatch):
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    tested = importlib.import_module(module)
    failures, _ = doctest.testmod(
        tested, extraglobs=NAMES, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failures == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page, monkeypatch, tmp_path, capsys):
    """The blocks of a page run in order, in one namespace and one empty folder.

    A block without a language holds commands, or the output of a block before it.
    """
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    printed = ""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S)
    for i, (language, block) in enumerate(blocks):
        if language == "python":
            exec(compile(block, f"{page.name} block {i}", "exec"), namespace)
            printed += capsys.readouterr().out
        elif language == "" and block.startswith("jaxinit "):
            for name, module in modules_of_the_reader(namespace).items():
                monkeypatch.setitem(sys.modules, name, module)
            for line in block.splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
        elif language == "" and not block.startswith(("pip ", "make ")):
            assert block in printed


def modules_of_the_reader(namespace):
    """The modules that commands of the pages import."""

    def gpt2():
        tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, 256)
        return models.GPT(2, 64), tokens

    return {
        "my_models": types.SimpleNamespace(gpt2=gpt2),
        "my_project.model": types.SimpleNamespace(make=namespace.get("make")),
    }


def test_every_page_has_examples_but_for_tables():
    bare = {page.stem for page in PAGES if "```python" not in page.read_text()}
    assert bare == {"migration", "numbers"}


def test_readme_is_short_and_starts_with_installation_and_an_example():
    lines = README.read_text().splitlines()
    assert len(lines) <= 200
    first_screen = "\n".join(lines[:30])
    assert "pip install jaxinit" in first_screen and "```python" in first_screen
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT).as_posix()})" in README.read_text()


@pytest.mark.parametrize("page", FRAMEWORKS, ids=lambda page: page.stem)
def test_pages_of_frameworks_have_the_same_sections(page):
    jobs = ["Initialize", "Change by rules", "Shard", "Explain", "Reproduce"]
    headings = re.findall(r"^## (.+)$", prose(page), re.M)
    assert headings[: len(jobs)] == jobs


def test_every_public_name_is_in_the_reference():
    shown = set(in_reference())
    for name in shown:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    functions = {f"jaxinit.functional.{n}" for n in public(jaxinit.functional)}
    names = {
        f"jaxinit.{name}"
        for name, value in public(jaxinit).items()
        if inspect.isfunction(value) or name == value.__name__  # not another name
    }
    for adapter in ("linen", "nnx", "equinox", "haiku", "keras"):
        module = getattr(jaxinit, adapter)
        for name, value in public(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                names.add(f"jaxinit.{adapter}.{name}")
    assert functions | names <= shown


SECTIONS = ["Args", "Attributes", "Returns", "Raises", "Warns", "Example"]
SECTIONS.append("References")


def test_docstrings_of_the_reference_have_one_order():
    for name in in_reference():
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        doc = inspect.getdoc(value) or ""
        found = re.findall(r"^([A-Z]\w+):$", doc, re.M)
        assert set(found) <= {*SECTIONS}, name
        assert found == sorted(found, key=SECTIONS.index), (name, found)
        assert doc.partition("\n")[0].endswith((".", ":")), name
        if inspect.isfunction(value):
            assert "Example" in found, name
            signature = inspect.signature(value)
            assert described(doc) == list(signature.parameters), name
            if signature.return_annotation not in (None, "None"):
                assert "Returns" in found, name


def described(doc):
    """The arguments that a docstring describes, in its order."""
    section = re.search(r"^Args:\n((?: .*\n|\n)+)", doc, re.M)
    return re.findall(r"^    \*{0,2}(\w+): ", section[1], re.M) if section else []


def in_reference():
    """The names whose docstrings the pages of the reference show."""
    pages = "".join(page.read_text() for page in REFERENCE)
    return re.findall(r"^::: (\S+)$", pages, re.M)


def public(module):
    """The public classes and functions of jaxinit in a module, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("jaxinit")
    }


def test_tables_equal_the_output_of_the_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = importlib.import_module("tables")
    assert tables.PAGES == PAGES
    for page in PAGES:
        assert tables.render(page.read_text()) == page.read_text(), page.name
        for table in re.findall(r"<!-- table: .*?<!-- end -->", page.read_text(), re.S):
            assert re.search(
                r"\d (cores of|NVIDIA) .* jax \d.*, 20\d\d-\d\d-\d\d", table
            )
    numbers = (ROOT / "docs" / "numbers.md").read_text()
    shown = re.findall(r"<!-- table: (\w+)", numbers)
    assert {*shown} == {*tables.TABLES} - {"first"}  # a part of models
    first = re.search(r"<!-- table: (.*) -->", README.read_text())
    assert first is not None and first[1] == "first on nvidia"


def broken_links(page):
    """Returns the relative links to files or headings that do not exist."""
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def prose(page):
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.S)


def anchors(page):
    """Returns the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem
)
def test_links_and_names_exist(page):
    assert not list(broken_links(page))
    for name in re.findall(r"`jaxinit\.([A-Za-z_]+)", page.read_text()):
        assert hasattr(jaxinit, name) or (PACKAGE / f"{name}.py").exists(), name


def test_broken_links_are_found(tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# jax.nn, and others\n")
    page.write_text(
        "[a](other.md) [b](other.md#jaxnn-and-others) [c](https://example.org)\n"
        "[d](none.md) [e](other.md#none) [f](#none)\n```\nx[0](none)\n```\n"
    )
    assert list(broken_links(page)) == ["none.md", "other.md#none", "#none"]


def test_every_initializer_is_in_the_table():
    text = (ROOT / "docs" / "initializers.md").read_text()
    first_cells = "".join(re.findall(r"^\|([^|]+)\|", text, re.M))
    built_in = (c for c in jaxinit.names().values() if c.__module__ in MODULES)
    missing = {c.__name__ for c in built_in} - set(re.findall(r"`(\w+)`", first_cells))
    assert not missing


def test_every_initializer_is_in_the_gallery(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    gallery = importlib.import_module("gallery")
    built_in = {c for c in jaxinit.names().values() if c.__module__ in MODULES}
    assert built_in and built_in <= gallery.shown()


def test_the_sdist_contains_the_files_that_tests_read():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    included = settings["build"]["targets"]["sdist"]["include"]
    assert {"/benchmarks", "/docs", "/tests", "/tools"} <= set(included)
