"""Read settings from YAML, JSON and TOML files and from the environment, and check them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import Field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import DataError, InputError
from ..files import read_text
from ..parsing import ParseError, parse_json, parse_toml, parse_yaml

__all__ = ["checked_values", "read_environ", "read_file", "unknown_key"]

SECTION = "at2-prune"
SWITCH = "AT2_PRUNE"
PREFIX = "AT2_PRUNE_"
OTHER_VARIABLES = ("AT2_PRUNE_API_KEY", "AT2_PRUNE_CACHE", "AT2_PRUNE_DATA", "AT2_PRUNE_PROGRESS")
"""Environment variables that are not settings. In this order they give the key of a server, the folder of the cache,
the folder of the data for tests and examples, and whether progress bars are shown."""

Settings = Mapping[str, "Field[Any]"]
"""Fields by name, each with a `kind` in its metadata; see `at2_prune.pipeline.kinds.setting`."""


def checked_values(values: Mapping[str, Any], settings: Settings, where: str = "") -> dict[str, Any]:
    """Return the values if every key is a known setting and every value is valid.

    Args:
        values: the values, by the names of the settings.
        settings: all settings.
        where: the name of the file that the values come from, for error messages.

    Raises:
        InputError: a key is unknown or a value is invalid. The message says which keys or values are allowed.
    """
    prefix = f"{where}: " if where else ""
    for key, value in values.items():
        if key not in settings:
            raise unknown_key(key, settings, prefix)
        kind = settings[key].metadata["kind"]
        if not kind.accepts(value):
            raise InputError(f"{prefix}{key}{kind.refusal(value)}")
    return dict(values)


def unknown_key(key: Any, allowed: Collection[str], prefix: str = "") -> InputError:
    """Make the error about a setting that does not exist. It names the closest setting, and all that are allowed."""
    close = get_close_matches(str(key), allowed, n=1)
    hint = f", did you mean {close[0]!r}?" if close else "."
    return InputError(f"{prefix}unknown key {key!r}{hint} Allowed: {', '.join(allowed)}")


def read_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """Return the settings that environment variables give.

    The variable for `enabled` is `AT2_PRUNE`. The variable for any other setting is `AT2_PRUNE_<KEY>`. An empty
    variable is ignored.

    Raises:
        InputError: a variable that begins with `AT2_PRUNE_` is unknown, or a value is invalid.
    """
    names = {SWITCH: "enabled", **{PREFIX + key.upper(): key for key in settings if key != "enabled"}}
    values = {}
    for variable, text in environ.items():
        if not (variable == SWITCH or variable.startswith(PREFIX)) or variable in OTHER_VARIABLES or not text.strip():
            continue
        if variable not in names:
            close = [SWITCH] if variable == PREFIX + "ENABLED" else get_close_matches(variable, names, n=1)
            hint = f", did you mean {close[0]}?" if close else "."
            allowed = ", ".join([*names, *OTHER_VARIABLES])
            raise InputError(f"unknown environment variable {variable}{hint} Allowed: {allowed}")
        kind = settings[names[variable]].metadata["kind"]
        value = kind.parse(text.strip())
        if not kind.accepts(value):
            raise InputError(f"environment variable {variable}{kind.refusal(text)}")
        values[names[variable]] = value
    return values


def read_file(path: Path) -> dict[str, Any]:
    """Return the keys and values of a config file. If the file has a part for at2-prune, return only that part.

    In YAML and JSON, the part is the section `at2-prune`. In TOML, the part is the table `[tool.at2-prune]` or
    `[at2-prune]`. A TOML file of other programs, without such a table, gives no values.

    Raises:
        DataError: the file cannot be read, is not valid, names a key twice, or does not end in .yaml, .yml, .json or
            .toml.
    """
    readers = {".yaml": parse_yaml, ".yml": parse_yaml, ".json": parse_json, ".toml": parse_toml}
    kind = path.suffix.lower()
    if kind not in readers:
        raise DataError(f"{path}: a config file must end in .yaml, .yml, .json or .toml")
    try:
        data = readers[kind](read_text(path))
    except ParseError as error:
        raise DataError(f"{path}: not valid {kind[1:].upper()} ({error})") from None
    data = _mapping({} if data is None else data, str(path))
    if kind != ".toml":
        _refuse_misspelt(data, f"{path}: the section {{}}")
        return _mapping(data[SECTION] or {}, f"{path}, section {SECTION}") if SECTION in data else data
    tool = _mapping(data.get("tool", {}), f"{path}, table [tool]")
    _refuse_misspelt(tool, f"{path}: the table [tool.{{}}]")
    _refuse_misspelt(data, f"{path}: the table [{{}}]")
    if SECTION in tool:
        return _mapping(tool[SECTION], f"{path}, table [tool.{SECTION}]")
    if SECTION in data:
        return _mapping(data[SECTION], f"{path}, table [{SECTION}]")
    if tool or path.name == "pyproject.toml":  # the file holds settings of other programs
        return {}
    return data


def _refuse_misspelt(names: Mapping[Any, Any], where: str) -> None:
    """Refuse a section whose name is `SECTION` with other upper and lower case, or with `_` instead of `-`.

    Without this check, such a table in a TOML file of other programs would be ignored. In any other file, the name
    would be refused as an unknown key.

    Args:
        names: the names of all sections.
        where: the description of a section in an error message. The section's name replaces `{}`.
    """
    for name in names:
        if name != SECTION and str(name).lower().replace("_", "-") == SECTION:
            raise DataError(f"{where.format(name)} must be named {SECTION}")


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise DataError(f"{where}: expected keys and values, got {type(data).__name__}")
    return data
