"""Runs ablations. In an ablation, some sources are left out, and the log-odds of a target are measured."""

from .masks import random_masks, seeded_generator
from .outcomes import ablation_outcomes, log_odds
from .run import Positions

__all__ = ["Positions", "ablation_outcomes", "log_odds", "random_masks", "seeded_generator"]
