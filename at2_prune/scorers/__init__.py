"""The scorers of all methods. Each scorer is a subclass of `base.Scorer`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from .attention_baselines import AttentionScorer
from .base import Scorer, ScorerOptions, Task
from .bm25 import BM25Scorer
from .ca_lig import CaLigScorer
from .cross_encoder import CrossEncoderScorer
from .dense import DenseScorer
from .fusion import FusionScorer
from .gradient_x_input import GradientXInputScorer
from .heta import HetaScorer
from .learned import LearnedScorer
from .leave_one_out import LeaveOneOutScorer
from .random import RandomScorer
from .registry import make_scorer
from .retriever_order import RetrieverOrderScorer
from .surrogate import SurrogateScorer

__all__ = [
    "AttentionScorer",
    "BM25Scorer",
    "CaLigScorer",
    "CrossEncoderScorer",
    "DenseScorer",
    "FusionScorer",
    "GradientXInputScorer",
    "HetaScorer",
    "LearnedScorer",
    "LeaveOneOutScorer",
    "RandomScorer",
    "RetrieverOrderScorer",
    "Scorer",
    "ScorerOptions",
    "SurrogateScorer",
    "Task",
    "make_scorer",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "AT2Scorer":
            message = "AT2Scorer is now called LearnedScorer; the old name will be removed in 0.3"
            warnings.warn(message, FutureWarning, stacklevel=2)
            return LearnedScorer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
