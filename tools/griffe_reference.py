"""Prepares docstrings for the reference: adds sections and links."""

import re
from pathlib import Path
from typing import Any

import griffe

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
NAMES = {
    name
    for page in REFERENCE.glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
}


class Reference(griffe.Extension):
    """Changes docstrings before Griffe parses them."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Turns "Example:" into a section, and names in backticks into links."""
        if obj.docstring is None:
            return
        module = obj.module.path

        def link(match: re.Match[str]) -> str:
            name = match[1]
            packages = "", f"{module}.", "jaxinit.", "jaxinit.functional."
            places = [package + name for package in packages]
            found = next(filter(NAMES.__contains__, places), None)
            return match[0] if found is None else f"[`{name}`][{found}]"

        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
        obj.docstring.value = re.sub(r"(?<!`)`([\w.]+)`(?!`)", link, text)
