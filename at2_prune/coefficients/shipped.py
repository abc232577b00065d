"""Finds the learned coefficients that come with the package."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

from .head_coefficients import CONFIG_FILE

__all__ = ["shipped_coefficients", "shipped_for_weights"]


def shipped_coefficients(folder: str | os.PathLike[str] | None = None) -> dict[str, dict[str, Path]]:
    """Return the folders of all coefficients, as a dictionary of dictionaries.

    The outer key is the name of the model, and the inner key is the method.

    The coefficients of a method are in the folder `MODEL/METHOD`. If the model's name is a Hub id with a slash, MODEL
    is a nested folder. An example is `Qwen/Qwen3-0.6B/scout`.

    Args:
        folder: the folder to look in. By default, it is the folder in this package.

    Example:
        >>> sorted(shipped_coefficients()["gemma-3-270m"])
        ['at2', 'contribution_learned', 'effective_attention_learned', 'scout', 'scout_dense']
    """
    root = Path(str(files("at2_prune") / "data" / "coefficients")) if folder is None else Path(folder)
    shipped: dict[str, dict[str, Path]] = {}
    for path in sorted(root.rglob(f"*/*/{CONFIG_FILE}")):
        method = path.parent
        shipped.setdefault(method.parent.relative_to(root).as_posix(), {})[method.name] = method
    return shipped


def shipped_for_weights(weights: str, method: str, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder of the coefficients that were trained on a model with given weights.

    Args:
        weights: the digest of the model's weights, from `models.fingerprint.fingerprint`.
        method: the method of the coefficients.
        folder: the folder to look in. By default, it is the folder in this package.

    Returns:
        The folder. It is None if there are no such coefficients.
    """
    for methods in shipped_coefficients(folder).values():
        if method in methods:
            config = json.loads((methods[method] / CONFIG_FILE).read_text(encoding="utf-8"))
            if config.get("training", {}).get("weights") == weights:
                return methods[method]
    return None
