"""at2-prune keeps the retrieved passages that a model's attention points to, and answers from these passages.

Importing this package loads neither torch nor transformers. Each public name is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

_HOME = {
    "AT2Pruner": "pruning.pruner",
    "Bounds": "pruning.certainty",
    "Draft": "models.drafts",
    "HeadCoefficients": "coefficients.head_coefficients",
    "LanguageModel": "models.language_model",
    "Passage": "passages",
    "PruneConfig": "pipeline.config",
    "PruneResult": "pruning.results",
    "Question": "datasets",
    "Readout": "models.readouts",
    "load_questions": "datasets",
    "sample_questions_path": "datasets",
}
"""The module of each public name."""

__all__ = list(_HOME)

if TYPE_CHECKING:
    from .coefficients.head_coefficients import HeadCoefficients as HeadCoefficients
    from .datasets import Question as Question
    from .datasets import load_questions as load_questions
    from .datasets import sample_questions_path as sample_questions_path
    from .models.drafts import Draft as Draft
    from .models.language_model import LanguageModel as LanguageModel
    from .models.readouts import Readout as Readout
    from .passages import Passage as Passage
    from .pipeline.config import PruneConfig as PruneConfig
    from .pruning.certainty import Bounds as Bounds
    from .pruning.pruner import AT2Pruner as AT2Pruner
    from .pruning.results import PruneResult as PruneResult


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
