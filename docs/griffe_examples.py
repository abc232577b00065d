"""An extension of griffe: the section `Example:` of a docstring is shown as code, as `Examples:` is.

It also shows the math of docstrings, written for Sphinx, in the form that the site's pages have.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_INLINE = re.compile(r":math:`([^`]+)`")
_BLOCK = re.compile(r"^\.\. math:: ?(.+(?:\n[ ]+.+)*)", re.MULTILINE)
_SKIP = re.compile(r" *# doctest: \+\w+")


class Examples(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """Return a docstring in the form that the site can show.

    Example:
        >>> rewritten("Add.\\n\\nExample:\\n    >>> f(:math:`x`)  # doctest: +SKIP")
        'Add.\\n\\nExamples:\\n    >>> f($x$)'
    """
    text = _SKIP.sub("", _EXAMPLE.sub("Examples:", text))
    return _BLOCK.sub(lambda found: f"$${' '.join(found[1].split())}$$", _INLINE.sub(r"$\1$", text))
