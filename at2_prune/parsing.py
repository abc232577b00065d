"""Parse the JSON, YAML and TOML that users write, and the words that turn a setting on or off.

The parsers of JSON, YAML and TOML raise the same kind of error, `ParseError`.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from typing import Any

__all__ = ["ParseError", "parse_json", "parse_switch", "parse_toml", "parse_yaml"]

_SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


class ParseError(ValueError):
    """A text is not valid, cannot be read, or gives a key twice.

    Args:
        reason: the fault, in one line.
        line: the line of the fault, if the line is known. The first line is 1.
        column: the column of the fault, if the column is known. The first column is 1.
    """

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason if line is None else f"{reason}: line {line} column {column}")
        self.reason, self.line, self.column = reason, line, column


def parse_switch(text: str) -> bool | None:
    """Return True for "on", "true", "yes" and "1", False for their opposites, and None for any other text.

    Example:
        >>> parse_switch("Off"), parse_switch("yes"), parse_switch("maybe")
        (False, True, None)
    """
    return _SWITCH.get(text.lower())


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ParseError: the text is not valid JSON, or an object has a key twice. The error is also raised if Python cannot
            read the text, because values are nested too deeply or a number has too many digits.

    Example:
        >>> parse_json('{"text": "a", "text": "b"}')
        Traceback (most recent call last):
            ...
        at2_prune.parsing.ParseError: the key 'text' is given twice: delete one
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ParseError(error.msg, error.lineno, error.colno) from None
    except (RecursionError, ValueError) as error:
        raise _as_parse_error(error) from None


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text, or None if the text is empty.

    Raises:
        ParseError: the text is not valid YAML, or a mapping has a key twice. See also `parse_json`.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """A loader that raises an error if a key is given twice. PyYAML's own loader would keep the last value."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            merges = "tag:yaml.org,2002:merge"
            _refuse_repeated([self.construct_object(key) for key, _ in node.value if key.tag != merges])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _as_parse_error(error) from None
    except (AttributeError, LookupError, TypeError) as error:  # a tag does not fit its value
        raise ParseError(f"a value does not fit its tag; remove the tag ({error})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises:
        ParseError: the text is not valid TOML. See also `parse_json`.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]

    try:
        return tomllib.loads(text)  # tomllib refuses a key that is given twice
    except (RecursionError, ValueError) as error:
        raise _as_parse_error(error) from None


def _as_parse_error(error: Exception) -> ParseError:
    """Return a parser's error as a `ParseError`."""
    if isinstance(error, ParseError):
        return error
    if isinstance(error, RecursionError):
        return ParseError("nested too deeply")
    reason = " ".join(str(error).split())
    return ParseError("a number has too many digits" if "set_int_max_str_digits" in reason else reason)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse_repeated([key for key, _ in pairs])
    return found


def _refuse_repeated(keys: Sequence[Any]) -> None:
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise ParseError(f"the key {key!r:.80} is given twice: delete one")
