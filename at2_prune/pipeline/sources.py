"""The places that settings are read from: YAML and TOML files, the environment, and mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import DataError, InputError
from ..files import read_text

__all__ = ["checked_values", "read_environ", "read_toml", "read_yaml"]

SECTION = "at2-prune"
SWITCH = "AT2_PRUNE"
PREFIX = "AT2_PRUNE_"
OTHER_VARIABLES = ("AT2_PRUNE_CACHE", "AT2_PRUNE_DATA")
"""Variables that are not settings: the folder of the cache, and the folder of the test data."""

Settings = Mapping[str, "Field[Any]"]
"""Fields by name, each with a `kind` in its metadata; see `at2_prune.pipeline.kinds.setting`."""


def checked_values(values: Mapping[str, Any], settings: Settings, where: str = "") -> dict[str, Any]:
    """Return the values if every key is a known setting and every value is valid.

    Args:
        values: by the setting's name.
        settings: all settings.
        where: the name of their file, for errors.

    Raises:
        InputError: a key is unknown or a value is invalid. The message says which are allowed.
    """
    prefix = f"{where}: " if where else ""
    for key, value in values.items():
        if key not in settings:
            close = get_close_matches(str(key), settings, n=1)
            hint = f", did you mean {close[0]!r}?" if close else "."
            raise InputError(f"{prefix}unknown key {key!r}{hint} Allowed: {', '.join(settings)}")
        kind = settings[key].metadata["kind"]
        if not kind.accepts(value):
            raise InputError(f"{prefix}{key} must be {kind.words}, got {value!r:.80}")
    return dict(values)


def read_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """Return the settings in environment variables: `AT2_PRUNE` for `enabled`, `AT2_PRUNE_<KEY>` for the others.

    Raises:
        InputError: a variable that begins with `AT2_PRUNE_` is unknown, or a value is invalid.
    """
    names = {SWITCH: "enabled", **{PREFIX + key.upper(): key for key in settings if key != "enabled"}}
    values = {}
    for variable, text in environ.items():
        if not (variable == SWITCH or variable.startswith(PREFIX)) or variable in OTHER_VARIABLES or not text.strip():
            continue
        if variable not in names:
            close = get_close_matches(variable, names, n=1)
            hint = f", did you mean {close[0]}?" if close else "."
            raise InputError(f"unknown environment variable {variable}{hint} Allowed: {', '.join(names)}")
        kind = settings[names[variable]].metadata["kind"]
        value = kind.parse(text.strip())
        if not kind.accepts(value):
            raise InputError(f"environment variable {variable} must be {kind.words}, got {text!r:.80}")
        values[names[variable]] = value
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file, or of its section `at2-prune` if it has one.

    Raises:
        DataError: the file cannot be read, or does not hold keys and values.
    """
    import yaml

    try:
        data = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    data = _mapping({} if data is None else data, str(path))
    return _mapping(data[SECTION] or {}, f"{path}, section {SECTION}") if SECTION in data else data


def read_toml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a TOML file, or of its table `[tool.at2-prune]` or `[at2-prune]` if it has one.

    Without such a table, a file with other `[tool]` tables, or with the name `pyproject.toml`, gives no settings.

    Raises:
        DataError: the file cannot be read, or does not hold keys and values.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10 has no tomllib
        import tomli as tomllib  # type: ignore[no-redef]

    try:
        data = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: not valid TOML ({error})") from None
    tool = data.get("tool", {})
    if SECTION in tool:
        return _mapping(tool[SECTION], f"{path}, table [tool.{SECTION}]")
    if SECTION in data:
        return _mapping(data[SECTION], f"{path}, table [{SECTION}]")
    if tool or path.name == "pyproject.toml":  # these are settings of other programs
        return {}
    return data


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise DataError(f"{where}: expected keys and values, got {type(data).__name__}")
    return data
