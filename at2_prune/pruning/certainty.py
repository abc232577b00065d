"""Decide from probabilities how many sources are kept: by a minimum probability, or by a wanted recall."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..catalogue import METHODS
from ..coefficients.calibration import Calibration, count_for_share
from ..coefficients.loading import AnyCoefficients
from ..errors import CoefficientsError, InputError
from ..scorers.base import Scorer, ScorerOptions
from ..scorers.registry import check_scorer
from .selection import need_probabilities, no_probabilities, parse_recall

__all__ = ["CONFIDENT", "Bounds", "calibration_of", "check_probabilities"]

CONFIDENT = 0.5
"""A result is confident if `PruneResult.present` is at least this value. `present` is the probability that at least one
source is evidence."""


@dataclass(frozen=True)
class Bounds:
    """The bounds that decide from probabilities how many sources are kept.

    Raises:
        InputError: a bound has a value that cannot be used.

    Example:
        >>> Bounds(min_score=0.5).count([0.9, 0.05, 0.6, 0.4], most=3, calibration=None)
        2
    """

    min_score: float | None = None
    """The minimum probability of a kept source. This bound needs a calibrated scorer."""
    keep: str | None = None
    """`recall>=R` keeps the most probable sources, until their share of the summed probabilities reaches a calibrated
    level. The expected recall of evidence is then at least R; see `Calibration.level`. This bound replaces k, the
    number of sources to keep. It needs a calibrated scorer."""

    def __post_init__(self) -> None:
        if self.keep is not None:
            parse_recall(self.keep)
        score = self.min_score
        if score is not None and (
            isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1
        ):
            raise InputError(f"min_score must be a probability from 0 to 1, got {score!r:.80}")

    @property
    def names(self) -> list[str]:
        """The names of the bounds that are given."""
        return [name for name in ("min_score", "keep") if getattr(self, name) is not None]

    @property
    def given(self) -> bool:
        """Return whether at least one bound is given."""
        return bool(self.names)

    def count(self, probabilities: Sequence[float], most: int | None, calibration: Calibration | None) -> int:
        """Return the number of sources to keep. They are the most probable sources. The number may be 0.

        Args:
            probabilities: for each source, the probability that the source is evidence.
            most: the maximum number of sources, or None for no maximum. This maximum is ignored if `keep` is given.
            calibration: the calibration of the probabilities. Without `keep`, it is not used and may be None.
        """
        count = len(probabilities)
        if most is not None and self.keep is None:
            count = min(count, most)
        if self.min_score is not None:
            count = min(count, sum(value >= self.min_score for value in probabilities))
        if self.keep is not None and calibration is not None:
            count = min(count, count_for_share(probabilities, calibration.level(parse_recall(self.keep))))
        return count


def calibration_of(scorer: Scorer, *needed_by: str) -> Calibration:
    """Return the calibration of a scorer.

    Raises:
        InputError: the scorer's method gives no probabilities. The message names the settings that need probabilities.
        CoefficientsError: the scorer's coefficients have no calibration.
    """
    if scorer.calibration is not None:
        return scorer.calibration
    if scorer.name not in METHODS or not METHODS[scorer.name].gives_probabilities:
        raise no_probabilities(needed_by, scorer.name)
    raise CoefficientsError(
        f"{need_probabilities(needed_by)}, but these coefficients of {scorer.name} have no calibration: calibrate "
        "them with at2-prune calibrate"
    )


def check_probabilities(
    needed_by: Sequence[str],
    model: str | os.PathLike[str] | None,
    method: str | None = None,
    coefficients: str | os.PathLike[str] | AnyCoefficients | None = None,
    options: ScorerOptions | None = None,
) -> None:
    """Check, before a model is loaded, that a method will give probabilities.

    Args:
        needed_by: the names of the settings that need probabilities.
        model: as in `check_scorer`.
        method: as in `check_scorer`.
        coefficients: as in `check_scorer`.
        options: as in `check_scorer`.

    Raises:
        InputError, CoefficientsError: as in `check_scorer` and `calibration_of`.
    """
    method, scorer = check_scorer(model, method, coefficients, options)
    if scorer is not None:
        calibration_of(scorer, *needed_by)
    elif not METHODS[method].gives_probabilities:  # no scorer yet, so only the method can be checked
        raise no_probabilities(needed_by, method)
