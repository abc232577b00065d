"""The kinds of value that settings take. A kind checks a value, and describes the accepted values in error messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..parsing import parse_switch

__all__ = ["FLAG", "TEXT", "Kind", "checked", "choice", "probability", "setting", "whole"]


@dataclass(frozen=True)
class Kind:
    """One kind of value."""

    words: str
    """The accepted values in words. These words complete an error message such as "top_n must be …"."""
    accepts: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    """Parses the text of an environment variable. Text that cannot be parsed is returned unchanged. `accepts` then
    rejects the text."""
    choices: tuple[str, ...] = ()
    """The texts that the kind accepts, if there is a fixed list of them."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """The values that only an earlier version accepted. Each has a sentence that names a replacement."""

    def refusal(self, value: Any) -> str:
        """Return the end of the error message about a value that is not accepted.

        The caller puts the name of the setting or of the environment variable before this text.
        """
        if isinstance(value, str) and value in self.removed:
            return f"={value!r}: {self.removed[value]}"
        return f" must be {self.words}, got {value!r:.80}"


def setting(default: Any, kind: Kind, help: str, metavar: str | None = None) -> Any:
    """Declare a field of a config: its default, its kind and its help text.

    Args:
        default: the default value.
        kind: the values that the field takes.
        help: the help text, which the command line and the schemas of the frameworks show.
        metavar: the placeholder for the value on the command line.
    """
    return dataclasses.field(default=default, metadata={"kind": kind, "help": help, "metavar": metavar})


def whole(least: int, *others: str | None) -> Kind:
    """Return the kind that accepts integers of at least `least`, and the values in `others`."""
    words = {str(word).lower(): word for word in others}

    def accepts(value: Any) -> bool:
        return (isinstance(value, int) and not isinstance(value, bool) and value >= least) or value in others

    def parse(text: str) -> Any:
        return words.get(text.lower(), int(text) if text.isdecimal() else text)

    return Kind(" or ".join([f"an integer of at least {least}", *words]), accepts, parse)


def probability() -> Kind:
    """Return the kind that accepts a number from 0 to 1, or None."""

    def accepts(value: Any) -> bool:
        return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1)

    def parse(text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text

    return Kind("a number from 0 to 1", accepts, parse)


def checked(words: str, check: Callable[[str], Any]) -> Kind:
    """Return the kind that accepts None and every text for which `check` raises no `InputError`."""

    def accepts(value: Any) -> bool:
        if value is None:
            return True
        try:
            check(value)
        except InputError:
            return False
        return True

    return Kind(words, accepts)


def choice(*allowed: str, optional: bool = False, removed: Mapping[str, str] | None = None) -> Kind:
    """Return the kind that accepts the texts in `allowed`, and None if `optional` is true.

    Args:
        allowed: the accepted texts.
        optional: whether the kind also accepts None.
        removed: see `Kind.removed`.
    """
    words = " or ".join([", ".join(map(repr, allowed[:-1])), repr(allowed[-1])])

    def accepts(value: Any) -> bool:
        return (optional and value is None) or (isinstance(value, str) and value in allowed)

    return Kind(words, accepts, choices=allowed, removed=removed or {})


FLAG = Kind(
    "true or false (in the environment: on or off)",
    lambda value: isinstance(value, bool),
    lambda text: text if (said := parse_switch(text)) is None else said,
)
"""The kind of a switch: true or false."""
TEXT = Kind("a text that is not blank", lambda value: value is None or (isinstance(value, str) and value.strip() != ""))
"""The kind of a text that is not blank. None is accepted too."""
