"""A method's identity: its settings in a run's config, and its part of the keys under which scores are cached."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from at2_prune.attention.rows import RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.scorers import Scorer

from .code import code_digest
from .digests import coefficients_digest

__all__ = ["describe_scorer", "package_versions", "scorer_identity"]

_PACKAGES = {"bm25s": "bm25s", "onnxruntime": "onnxruntime", "scikit-learn": "sklearn", "scipy": "scipy"}
"""The packages that methods compute with, and the module by which each is found."""


def describe_scorer(scorer: Scorer) -> dict[str, Any]:
    """Return a method's own settings as JSON values.

    Coefficients become digests, and the path of a folder becomes its last two names.

    Settings that JSON cannot hold, and lists of anything but plain values, are left out.
    """
    return {name: _described(value) for name, value in _settings(scorer).items() if _is_told(value)}


def scorer_identity(scorer: Scorer) -> list[Any] | None:
    """Return all that a method's scores depend on, except the task; None if a part cannot be determined."""
    try:
        return [_exact(scorer), code_digest(sorted({*_modules(scorer)})), package_versions()]
    except (KeyError, OSError, TypeError):  # the class was written in an interpreter, or a setting is no JSON value
        return None


@functools.cache
def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that methods compute with."""
    return {name: version(name) for name in _PACKAGES if find_spec(_PACKAGES[name]) is not None}


def _settings(scorer: Scorer) -> dict[str, Any]:
    """Return the public attributes of a scorer, except attributes that follow from its name or coefficients."""
    told = {"name", "row_groups"}
    if any(isinstance(value, HeadCoefficients) for value in vars(scorer).values()):
        told.add("layers")
    return {name: value for name, value in sorted(vars(scorer).items()) if name not in told and name[0] != "_"}


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, type(None)))


def _is_told(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return _is_plain(value) or isinstance(value, (HeadCoefficients, ScoutCoefficients, Scorer, Path))


def _described(value: Any) -> Any:
    if isinstance(value, HeadCoefficients):
        groups = [group.name for group in value.row_groups]
        return {"model": value.model_name, "row_groups": groups, "sha256": coefficients_digest(value)}
    if isinstance(value, ScoutCoefficients):
        return {"model": value.model_name, "layers": list(value.layers), "sha256": coefficients_digest(value)}
    if isinstance(value, Scorer):
        return {"name": value.name, **describe_scorer(value)}
    if isinstance(value, Path):  # the folder of a model, which lies elsewhere on other machines
        return "/".join(value.parts[-2:])
    return list(value) if isinstance(value, tuple) else value


def _exact(value: Any) -> Any:
    """Return a setting as JSON, with nothing shortened. A scorer becomes its class, name and settings.

    Raises:
        TypeError: the setting cannot be written as JSON.
    """
    if isinstance(value, HeadCoefficients):
        return coefficients_digest(value)
    if isinstance(value, RowGroup):
        return value.name
    if isinstance(value, Scorer):
        settings = {name: _exact(setting) for name, setting in sorted(_all_settings(value).items())}
        return [type(value).__qualname__, value.name, settings]
    if isinstance(value, (list, tuple)):
        return [_exact(entry) for entry in value]
    if isinstance(value, (str, Path)) and os.path.isdir(value):  # an encoder, whose files may change
        dates = [path.stat().st_mtime for path in Path(value).rglob("*")]
        return [str(value), max(dates, default=0.0)]
    if isinstance(value, Path):
        return str(value)
    if _is_plain(value):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _all_settings(scorer: Scorer) -> dict[str, Any]:
    """Return the public attributes of a scorer, and the constructor's arguments that private attributes hold."""
    kept = vars(scorer)
    public = {name: value for name, value in kept.items() if name != "name" and name[0] != "_"}
    arguments = inspect.signature(type(scorer).__init__).parameters
    return public | {name: kept[f"_{name}"] for name in arguments if name not in kept and f"_{name}" in kept}


def _modules(value: Any) -> Iterator[str]:
    """Yield the modules of a scorer's class, of its base classes, and of the scorers among its settings."""
    if isinstance(value, Scorer):
        yield from (one.__module__ for one in type(value).__mro__ if issubclass(one, Scorer))
        value = list(_all_settings(value).values())
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _modules(entry)
