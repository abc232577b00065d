"""at2-prune: keep the retrieved passages that a model's attention points to, and answer from those.

Importing this package loads neither torch nor transformers; its names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

_HOME = {
    "AT2Pruner": "pruning.pruner",
    "Draft": "models.drafts",
    "HeadCoefficients": "coefficients.head_coefficients",
    "LanguageModel": "models.language_model",
    "Passage": "passages",
    "PruneConfig": "pipeline.config",
    "PruneResult": "pruning.results",
    "Question": "datasets",
    "load_questions": "datasets",
    "sample_questions_path": "datasets",
}

__all__ = [
    "AT2Pruner",
    "Draft",
    "HeadCoefficients",
    "LanguageModel",
    "Passage",
    "PruneConfig",
    "PruneResult",
    "Question",
    "load_questions",
    "sample_questions_path",
]

if TYPE_CHECKING:
    from .coefficients.head_coefficients import HeadCoefficients
    from .datasets import Question, load_questions, sample_questions_path
    from .models.drafts import Draft
    from .models.language_model import LanguageModel
    from .passages import Passage
    from .pipeline.config import PruneConfig
    from .pruning.pruner import AT2Pruner
    from .pruning.results import PruneResult


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
