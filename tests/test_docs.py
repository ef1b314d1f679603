"""The examples in docstrings and in the README run and show what they say."""

import dataclasses
import doctest
import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.initializers import registry

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = pathlib.Path(jaxinit.__file__).parent
MODULES = sorted(
    ".".join(("jaxinit", *p.relative_to(PACKAGE).with_suffix("").parts))
    for p in PACKAGE.rglob("*.py")
    if p.name not in ("__init__.py", "__main__.py")
)
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


def test_readme(monkeypatch, tmp_path):
    """Its Python blocks run in order, in one namespace, in an empty folder."""
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    namespace = {"__name__": "readme"}
    for i, block in enumerate(blocks):
        exec(compile(block, f"README.md block {i}", "exec"), namespace)


def test_readme_tables_are_what_the_benchmarks_wrote(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    text = (ROOT / "README.md").read_text()
    assert importlib.import_module("tables").render(text) == text


def test_readme_links_and_names():
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`jaxinit\.([A-Za-z_]+)", text):
        assert hasattr(jaxinit, name) or (PACKAGE / f"{name}.py").exists(), name
    built_in = (c for c in jaxinit.names().values() if c.__module__ in MODULES)
    for cls in built_in:
        assert f"`{cls.__name__}" in text, f"{cls.__name__} is not in the README"
