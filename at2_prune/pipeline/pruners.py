"""Load the pruner of a step, or check the pruner that a user gives.

Frameworks copy adapters, validate them again and send them to other processes. In each process, all steps with the
same `MODEL_SETTINGS` therefore share one pruner. See also `at2_prune.models.shared_models`.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..catalogue import METHODS
from ..errors import InputError
from ..files import newest_change
from .config import SETTINGS, PruneConfig

if TYPE_CHECKING:
    from ..pruning.pruner import AT2Pruner

__all__ = ["MODEL_SETTINGS", "check_given", "forget_pruners", "load_pruner", "options_of"]

MODEL_SETTINGS = (
    "model",
    "reader",
    "device",
    "dtype",
    "coefficients",
    "method",
    "index",
    "cross_encoder",
    "embedder",
    "calibrate",
    "max_new_tokens",
)
"""The settings that decide which pruner is loaded."""
_FOLDERS = ("model", "reader", "coefficients", "cross_encoder", "embedder")
"""The settings that may name a folder of a model or of coefficients. If files in such a folder change, the pruner is
loaded again."""

_pruners: WeakValueDictionary[tuple[Any, ...], AT2Pruner] = WeakValueDictionary()
_latest: list[AT2Pruner] = []
"""The pruner that `load_pruner` returned last. This list keeps the pruner loaded, because some frameworks make a new
adapter for each call."""
_loading = threading.RLock()


def load_pruner(config: PruneConfig) -> AT2Pruner:
    """Return the pruner for the `MODEL_SETTINGS` of a config. If this process has the pruner already, it is reused.

    A pruner stays loaded as long as a step uses it. The pruner that this function returned last also stays loaded,
    until the function returns another pruner or `forget_pruners` is called. If files in a folder of `_FOLDERS` change,
    the pruner is loaded again.

    Raises:
        InputError, CoefficientsError, ModelNotSupportedError, MissingExtraError: see `AT2Pruner.from_pretrained`.
    """
    from ..pruning.pruner import AT2Pruner  # imports torch

    values = {name: getattr(config, name) for name in MODEL_SETTINGS}
    key = (*values.values(), *(newest_change(values[name]) for name in _FOLDERS))
    with _loading:
        pruner = _pruners.get(key)
        if pruner is None:
            pruner = AT2Pruner.from_pretrained(**values)
            _pruners[key] = pruner
        _latest[:] = [pruner]
        return pruner


def forget_pruners() -> None:
    """Forget all pruners. The memory of a pruner is freed when no step uses the pruner any more.

    A new step loads its pruner again.
    """
    from ..models.shared_models import forget_models  # imports torch

    with _loading:
        _latest.clear()
        _pruners.clear()
        forget_models()


def options_of(pruner: Any) -> dict[str, Any]:
    """Return the settings that an adapter takes from a given pruner: granularity, order and overflow.

    Raises:
        InputError: `pruner` is not an `AT2Pruner`.
    """
    from ..pruning.pruner import AT2Pruner

    if not isinstance(pruner, AT2Pruner):
        raise InputError(f"pruner must be an AT2Pruner, got {type(pruner).__name__}: {pruner!r:.80}")
    return {"granularity": pruner.granularity, "order": pruner.order, "overflow": pruner.overflow}


def check_given(pruner: AT2Pruner, config: PruneConfig) -> None:
    """Check that a config does not contradict a given pruner, which is used instead of the config's `MODEL_SETTINGS`.

    Raises:
        InputError: `pruner` is not an `AT2Pruner`, or a setting of the config has another value than `pruner`. A
            setting is checked only if it differs from its default. The checked settings are method, cross_encoder,
            embedder, index, model, reader, device, dtype and max_new_tokens. Coefficients are refused if the pruner's
            method has none.
    """
    from ..models.loading import choose_device
    from ..scorers.cross_encoder import CrossEncoderScorer
    from ..scorers.dense import DenseScorer
    from ..scorers.fusion import FusionScorer
    from ..scorers.scout import ScoutScorer

    options_of(pruner)
    model = pruner.language_model
    scorer = pruner.scorer
    reranker = os.fspath(scorer.model) if isinstance(scorer, CrossEncoderScorer) else None
    dense = scorer.fallback if isinstance(scorer, FusionScorer) else scorer
    embedder = dense.embedder if isinstance(dense, (DenseScorer, ScoutScorer)) else None
    scout = scorer.attention if isinstance(scorer, FusionScorer) else scorer
    index = os.path.expanduser(scout.folder) if isinstance(scout, ScoutScorer) and scout.folder is not None else None
    has = [
        ("method", config.method, scorer.name),
        ("cross_encoder", config.cross_encoder, reranker),
        ("embedder", config.embedder, embedder and os.fspath(embedder)),
        ("index", config.index and os.path.expanduser(config.index), index),
        ("model", config.model and os.path.expanduser(config.model), model.name),
        ("reader", config.reader and os.path.expanduser(config.reader), pruner.reader.name),
        ("device", config.device and str(choose_device(config.device)), str(model.device)),
        ("dtype", config.dtype, str(model.model.dtype).removeprefix("torch.")),
        ("max_new_tokens", config.max_new_tokens, pruner.max_new_tokens),
    ]
    for name, wanted, value in has:
        said = getattr(config, name)
        if said != SETTINGS[name].default and wanted != value:
            raise InputError(
                f"{name}={said!r} contradicts the given pruner, which has {value!r}: leave out the setting, or the "
                "pruner"
            )
    info = METHODS.get(scorer.name)
    if config.coefficients is not None and info is not None and not info.coefficients:
        raise InputError(
            f"coefficients={config.coefficients!r} contradicts the given pruner: its method {info.name} has no "
            "coefficients, so leave out coefficients"
        )


def _after_fork() -> None:
    """Make a new lock in a forked process. The thread that held the old lock may not exist in that process."""
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
