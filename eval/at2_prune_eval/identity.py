"""A method's identity: the settings that go into a run's config, and the key under which its scores are remembered."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import at2_prune
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.scorers import Scorer

from .digests import coefficients_digest

__all__ = ["describe_scorer", "package_versions", "scorer_identity"]

_PACKAGES = {"bm25s": "bm25s", "scikit-learn": "sklearn", "scipy": "scipy"}
"""The packages that methods compute with, and the module by which each is found."""


def describe_scorer(scorer: Scorer) -> dict[str, Any]:
    """A method's own settings as JSON values; coefficients by digest, folders by their last two names.

    Settings that JSON cannot hold are left out.
    """
    return {name: _described(value) for name, value in _settings(scorer).items() if _can_be_described(value)}


def scorer_identity(scorer: Scorer) -> list[Any] | None:
    """Everything that a method's scores depend on beside the task; None if some of it cannot be told."""
    settings = _settings(scorer)
    if not all(map(_can_be_described, settings.values())):
        return None
    try:
        code = inspect.getsource(sys.modules[type(scorer).__module__])
    except (KeyError, OSError, TypeError):  # written in an interpreter, for example
        return None
    kind = [type(scorer).__qualname__, scorer.name, describe_scorer(scorer), _folders(scorer)]
    return [kind, code, _own_code(), package_versions()]


@functools.cache
def package_versions() -> dict[str, str]:
    """The versions of the packages that methods compute with, where they are installed."""
    return {name: version(name) for name in _PACKAGES if find_spec(_PACKAGES[name]) is not None}


def _settings(scorer: Scorer) -> dict[str, Any]:
    """The public attributes of a scorer, without those that follow from its name or its coefficients."""
    told = {"name", "row_groups"}
    if any(isinstance(value, HeadCoefficients) for value in vars(scorer).values()):
        told.add("layers")
    return {name: value for name, value in sorted(vars(scorer).items()) if name not in told and name[0] != "_"}


def _can_be_described(value: Any) -> bool:
    if isinstance(value, Scorer):
        return all(map(_can_be_described, _settings(value).values()))
    if isinstance(value, (list, tuple)):
        return all(map(_can_be_described, value))
    return isinstance(value, (HeadCoefficients, Path, str, int, float, type(None)))


def _described(value: Any) -> Any:
    if isinstance(value, HeadCoefficients):
        groups = [group.name for group in value.row_groups]
        return {"model": value.model_name, "row_groups": groups, "sha256": coefficients_digest(value)}
    if isinstance(value, Scorer):
        return {"name": value.name, **describe_scorer(value)}
    if isinstance(value, Path):  # a model on this machine, which lies elsewhere on others
        return "/".join(value.parts[-2:])
    return [_described(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _folders(scorer: Scorer) -> list[list[Any]]:
    """The local folders that a scorer loads models from, with their date: a model may be trained again."""
    found: list[list[Any]] = []
    for value in _settings(scorer).values():
        if isinstance(value, Scorer):
            found += _folders(value)
        elif isinstance(value, (str, Path)) and os.path.isdir(value):
            dates = [path.stat().st_mtime for path in Path(value).rglob("*")]
            found.append([str(value), max(dates, default=0.0)])
    return found


@functools.cache
def _own_code() -> str:
    """A digest of at2-prune's code: scores depend on much more of it than the method's own file."""
    state = hashlib.sha256()
    for path in sorted(Path(str(files(at2_prune))).rglob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()
