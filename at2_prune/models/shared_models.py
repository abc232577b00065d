"""Loads each language model once per process, for each name, device and precision.

A model stays loaded as long as an object in the process refers to it. If a file in the model's folder changes, the next
call loads the model again.
"""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakValueDictionary

import torch

from ..files import newest_change
from .default_model import EMBEDDED_MODEL_ID
from .language_model import LanguageModel
from .loading import choose_device, choose_dtype

__all__ = ["forget_models", "shared_model"]

_models: WeakValueDictionary[tuple[Any, ...], LanguageModel] = WeakValueDictionary()
_loading = threading.RLock()


def shared_model(
    name: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LanguageModel:
    """Return the model of this name, device and precision. If this process has not loaded the model yet, load it.

    The arguments are those of `LanguageModel.load`.

    Raises:
        InputError, ModelNotSupportedError, MissingExtraError, CacheError: for the same reasons as in
            `LanguageModel.load`.
    """
    target = choose_device(device)
    path = os.path.expanduser(EMBEDDED_MODEL_ID if name is None else os.fspath(name))
    # The key holds the absolute path too, because a relative path names another folder if the process changes its
    # working directory.
    key = (path, os.path.abspath(path), str(target), choose_dtype(dtype, target), newest_change(path))
    with _loading:
        model = _models.get(key)
        if model is None:
            model = _models[key] = LanguageModel.load(name, device=device, dtype=dtype)
        return model


def forget_models() -> None:
    """Forget all models, so that `shared_model` loads each model again. A model that is in use stays in memory."""
    with _loading:
        _models.clear()


def _after_fork() -> None:
    """Make a new lock in a forked process.

    A thread of the old process may hold the old lock. In the new process, this thread does not exist, so the lock would
    never be released.
    """
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
