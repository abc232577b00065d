"""One method a file, one small protocol (`base.Scorer`)."""

from __future__ import annotations

from .at2 import AT2Scorer
from .average_attention import AverageAttentionScorer
from .base import Scorer, Task, prepare, prompt_groups, read_layers
from .bm25 import BM25Scorer
from .contribution import ContributionScorer
from .cross_encoder import CrossEncoderScorer
from .dense import DenseScorer
from .effective_attention import EffectiveAttentionScorer
from .fusion import FusionScorer
from .gradient_x_input import GradientXInputScorer
from .last_layer_attention import LastLayerAttentionScorer
from .leave_one_out import LeaveOneOutScorer
from .random import RandomScorer
from .registry import BUILT_ON, LEARNED, SCORERS, ScorerOptions, make_scorer
from .retriever_order import RetrieverOrderScorer
from .surrogate import SurrogateScorer

__all__ = [
    "BUILT_ON",
    "LEARNED",
    "SCORERS",
    "AT2Scorer",
    "AverageAttentionScorer",
    "BM25Scorer",
    "ContributionScorer",
    "CrossEncoderScorer",
    "DenseScorer",
    "EffectiveAttentionScorer",
    "FusionScorer",
    "GradientXInputScorer",
    "LastLayerAttentionScorer",
    "LeaveOneOutScorer",
    "RandomScorer",
    "RetrieverOrderScorer",
    "Scorer",
    "ScorerOptions",
    "SurrogateScorer",
    "Task",
    "make_scorer",
    "prepare",
    "prompt_groups",
    "read_layers",
]
