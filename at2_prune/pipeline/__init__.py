"""Pruning as a step of a pipeline: the config, and the step that the framework adapters run.

This package does not import torch until the scoring model is loaded.
"""

from __future__ import annotations

from .config import PruneConfig
from .results import DroppedPassage, KeptPassage, Pruned
from .step import PruneStep

__all__ = ["DroppedPassage", "KeptPassage", "PruneConfig", "PruneStep", "Pruned"]
