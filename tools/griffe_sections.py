"""Shows the section "Example:" of docstrings as Griffe shows "Examples:"."""

import re
from typing import Any

import griffe


class Sections(griffe.Extension):
    """Renames the section before Griffe parses it."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Renames the section in the docstring of one object."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
