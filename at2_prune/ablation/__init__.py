"""Ablations: sources are left out, and the change in the log-odds of an answer is measured."""

from .masks import random_masks, seeded_generator
from .outcomes import ablation_outcomes, log_odds
from .run import Positions

__all__ = ["Positions", "ablation_outcomes", "log_odds", "random_masks", "seeded_generator"]
