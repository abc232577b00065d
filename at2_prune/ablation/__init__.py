"""Ablations: how the log-odds of an answer change when sources are left out."""

from .masks import random_masks, seeded_generator
from .outcomes import ablation_outcomes, log_odds
from .run import Positions

__all__ = ["Positions", "ablation_outcomes", "log_odds", "random_masks", "seeded_generator"]
