"""The pruner of a step: a pruner that the user gives, or a pruner that all steps of a process share.

Frameworks copy adapters, validate them again and send them to other processes. A process therefore loads a model only
once for the same options, even if many steps ask for the model.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..catalogue import METHODS
from ..errors import InputError
from .config import SETTINGS, PruneConfig

if TYPE_CHECKING:
    from ..models.language_model import LanguageModel
    from ..pruning.pruner import AT2Pruner

__all__ = ["MODEL_SETTINGS", "check_given", "forget_pruners", "load_pruner", "options_of"]

MODEL_SETTINGS = ("model", "device", "dtype", "coefficients", "method", "index", "cross_encoder", "max_new_tokens")
"""The settings that decide which pruner is loaded. The first three decide which model is loaded."""

_pruners: WeakValueDictionary[tuple[Any, ...], AT2Pruner] = WeakValueDictionary()
_models: WeakValueDictionary[tuple[Any, ...], LanguageModel] = WeakValueDictionary()
_latest: list[AT2Pruner] = []
"""The pruner that was used last. It stays loaded for adapters that are made anew for each call."""
_loading = threading.RLock()


def load_pruner(config: PruneConfig) -> AT2Pruner:
    """Return the pruner for `MODEL_SETTINGS` of a config. A pruner that this process has already is not loaded again.

    A pruner stays loaded as long as a step uses it. The pruner that this function returned last also stays loaded,
    until the function returns another pruner or `forget_pruners` is called. A folder whose files have changed is loaded
    again.

    Raises:
        InputError, CoefficientsError, ModelNotSupportedError, MissingExtraError: see `AT2Pruner.from_pretrained`.
    """
    from ..pruning.pruner import AT2Pruner  # imports torch

    values = {name: getattr(config, name) for name in MODEL_SETTINGS}
    model_key = (*(values[name] for name in MODEL_SETTINGS[:3]), _written(config.model))
    key = (*values.values(), *model_key, *map(_written, (config.coefficients, config.cross_encoder)))
    with _loading:
        pruner = _pruners.get(key)
        if pruner is None:
            model = _models.get(model_key)
            pruner = AT2Pruner.from_pretrained(
                config.model if model is None else model,
                config.coefficients,
                method=config.method,
                index=config.index,
                cross_encoder=config.cross_encoder,
                device=config.device if model is None else None,
                dtype=config.dtype if model is None else None,
                max_new_tokens=config.max_new_tokens,
            )
            _pruners[key] = pruner
            _models[model_key] = pruner.language_model
        _latest[:] = [pruner]
        return pruner


def forget_pruners() -> None:
    """Forget all pruners, so that new steps load their pruner again.

    The memory of a pruner is freed when no step uses the pruner any more.
    """
    with _loading:
        _latest.clear()
        _pruners.clear()
        _models.clear()


def options_of(pruner: Any) -> dict[str, Any]:
    """Return the settings that an adapter takes from a given pruner.

    Raises:
        InputError: `pruner` is not an `AT2Pruner`.
    """
    from ..pruning.pruner import AT2Pruner

    if not isinstance(pruner, AT2Pruner):
        raise InputError(f"pruner must be an AT2Pruner, got {type(pruner).__name__}: {pruner!r:.80}")
    return {"granularity": pruner.granularity, "order": pruner.order, "overflow": pruner.overflow}


def check_given(pruner: AT2Pruner, config: PruneConfig) -> None:
    """Check that a given pruner does not contradict a config. The pruner replaces the config's `MODEL_SETTINGS`.

    Raises:
        InputError: `pruner` is not an `AT2Pruner`. Or the config names another method, cross-encoder, model, device,
            dtype or `max_new_tokens` than the pruner has. Or the config names coefficients, and the pruner's method
            uses none.
    """
    from ..models.loading import choose_device
    from ..scorers.cross_encoder import CrossEncoderScorer

    options_of(pruner)
    model = pruner.language_model
    reranker = os.fspath(pruner.scorer.model) if isinstance(pruner.scorer, CrossEncoderScorer) else None
    has = [
        ("method", config.method, pruner.scorer.name),
        ("cross_encoder", config.cross_encoder, reranker),
        ("model", config.model and os.path.expanduser(config.model), model.name),
        ("device", config.device and str(choose_device(config.device)), str(model.device)),
        ("dtype", config.dtype, str(model.model.dtype).removeprefix("torch.")),
        ("max_new_tokens", config.max_new_tokens, pruner.max_new_tokens),
    ]
    for name, wanted, value in has:
        said = getattr(config, name)
        if said != SETTINGS[name].default and wanted != value:
            raise InputError(f"{name}={said!r} contradicts the given pruner, which has {value!r}: leave out {name}")
    info = METHODS.get(pruner.scorer.name)
    if config.coefficients is not None and info is not None and not info.coefficients:
        raise InputError(
            f"coefficients={config.coefficients!r} contradict the given pruner, whose method {info.name} has "
            "no coefficients: leave out coefficients"
        )


def _written(name: str | None) -> int | None:
    """The time at which the newest file of a folder was written; None for anything else, such as a Hub id."""
    folder = None if name is None else os.path.expanduser(name)
    if folder is None or not os.path.isdir(folder):
        return None
    with os.scandir(folder) as entries:
        return max((entry.stat().st_mtime_ns for entry in entries), default=None)


def _after_fork() -> None:
    """Make a new lock in a forked process, where the thread that held the old lock may not exist."""
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
