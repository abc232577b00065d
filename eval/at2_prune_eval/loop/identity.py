"""Describe a method: its settings for a run's config, and its identity for the cache keys of its scores."""

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
"""The packages that methods compute with. A value is the module whose presence shows that the package is installed."""


def describe_scorer(scorer: Scorer) -> dict[str, Any]:
    """Return a method's own settings as JSON values, for people who read a run's config.

    Coefficients are described by their model, their row groups or layers, and a digest. A path is shortened to its last
    two names. Other settings that JSON cannot hold are left out, and so are lists that hold more than plain values.
    """
    return {name: _described(value) for name, value in _settings(scorer).items() if _is_told(value)}


def scorer_identity(scorer: Scorer) -> list[Any] | None:
    """Return everything that a method's scores depend on, except the task. Return None if this cannot be determined."""
    try:
        return [_exact(scorer), code_digest(sorted({*_modules(scorer)})), package_versions()]
    except (KeyError, OSError, TypeError):  # the class was typed into an interpreter, or a setting is no JSON value
        return None


@functools.cache
def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that methods compute with."""
    return {name: version(name) for name in _PACKAGES if find_spec(_PACKAGES[name]) is not None}


def _settings(scorer: Scorer) -> dict[str, Any]:
    """Return the public attributes of a scorer, except its name and attributes that its coefficients decide."""
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
    if isinstance(value, Path):  # the folder of a model; on another machine, its parent folder may differ
        return "/".join(value.parts[-2:])
    return list(value) if isinstance(value, tuple) else value


def _exact(value: Any) -> Any:
    """Return a setting as JSON values that identify it. A scorer becomes its class, name and settings.

    Coefficients become a digest. For a folder, the date of its newest file is added.

    Raises:
        TypeError: the setting cannot be written as JSON.
    """
    if isinstance(value, (HeadCoefficients, ScoutCoefficients)):
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
    """Return the public attributes of a scorer, and constructor arguments that are kept in private attributes."""
    kept = vars(scorer)
    public = {name: value for name, value in kept.items() if name != "name" and name[0] != "_"}
    arguments = inspect.signature(type(scorer).__init__).parameters
    return public | {name: kept[f"_{name}"] for name in arguments if name not in kept and f"_{name}" in kept}


def _modules(value: Any) -> Iterator[str]:
    """Yield the modules that define a scorer: of its class and base classes, and of the scorers among its settings."""
    if isinstance(value, Scorer):
        yield from (one.__module__ for one in type(value).__mro__ if issubclass(one, Scorer))
        value = list(_all_settings(value).values())
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _modules(entry)
