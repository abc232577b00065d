"""Learns the coefficients of the scoring method scout for any model.

The questions come with at2-prune. More questions can be made from a user's own texts.
"""

from __future__ import annotations

from .cache import cached_folder, calibrate_in_cache, calibrated_coefficients, check_cache, switched_off
from .calibrate import CalibrationReport, calibrate, check_enough, recalibrate
from .pseudo_questions import pseudo_questions
from .questions import SHIPPED, shipped_data, shipped_questions

__all__ = [
    "SHIPPED",
    "CalibrationReport",
    "cached_folder",
    "calibrate",
    "calibrate_in_cache",
    "calibrated_coefficients",
    "check_cache",
    "check_enough",
    "pseudo_questions",
    "recalibrate",
    "shipped_data",
    "shipped_questions",
    "switched_off",
]
