"""One method a file, one small protocol (`base.Scorer`)."""

from __future__ import annotations

from .at2 import AT2Scorer
from .average_attention import AverageAttentionScorer
from .base import Scorer, Task

__all__ = ["AT2Scorer", "AverageAttentionScorer", "Scorer", "Task"]
