r"""Calibration: turns the scores of scout into probabilities, and a wanted recall into a number of sources to keep.

For a question, let :math:`s(S)` be the score of source S, and let :math:`\theta \cdot x(S)` be its first score (see
`ScoutCoefficients`). Let :math:`z = \log \sum_S e^{\theta \cdot x(S)}` be the log-sum-exp of the first scores. Two
logistic regressions give probabilities. The probability that source S is evidence is

.. math:: P(S) = \sigma(a_0 + a_1 \log s(S) + a_2 z).

The probability that at least one source is evidence is

.. math:: \sigma(b_0 + b_1 z + b_2 \max_S \log s(S)).

Both regressions are fitted to cross-validated scores: each question is scored by coefficients that were fitted to the
other folds. `at2_prune.calibration.recalibrate` scores all questions by the given coefficients instead.

For very short texts, :math:`z` can be far below the :math:`z` of all fitted questions. So :math:`z` is first limited to
the interval between the 1st and the 99th percentile of :math:`z` over the fitted questions.

The two regressions make different assumptions. The first regression assumes that one question in ten has no evidence
among its sources. The second regression assumes that half of the questions have no evidence. So the probability that at
least one source is evidence can be lower than the probability of a single source.

Sources are kept in the order of their probability, until their share of the summed probabilities reaches a level.
Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814, equation 4) finds the level for a wanted recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..errors import CoefficientsError

__all__ = ["LEAST_SCORE", "LEVELS", "Calibration", "count_for_share"]

LEAST_SCORE = 1e-9
"""The lower limit of the scores. A lower score is raised to this limit before the logarithm is taken."""
LEVELS = (*(round(0.3 + 0.01 * i, 2) for i in range(70)), 0.995, 0.998, 0.999)
"""The shares of the summed probabilities at which the recall is measured."""


@dataclass(frozen=True)
class Calibration:
    """The calibration of scout's coefficients for one model.

    Example:
        >>> calibration = Calibration((3.0, 1.5, 0.0), (0.0, 1.0, 0.0), (), 0)
        >>> scores = torch.tensor([1.2, 0.1, 0.01])
        >>> [round(p, 2) for p in calibration.probabilities(scores, total=2.0).tolist()]
        [0.96, 0.39, 0.02]
    """

    source: tuple[float, ...]
    """The weights :math:`a_0, a_1, a_2` of the regression for a source."""
    present: tuple[float, ...]
    """The weights :math:`b_0, b_1, b_2` of the regression for a question."""
    misses: tuple[float, ...] = ()
    """For each level of `LEVELS`, the share of a question's evidence that is not kept, as a mean over questions."""
    questions: int = 0
    """The number of questions in the means of `misses`."""
    fewest: int = 0
    """The minimum number of sources for `probability_present`. It is half the 5th percentile of the number of sources
    in the fitted questions. Fewer sources give a lower z, whether or not one of them is evidence."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """The cross-validated measures of the calibration."""
    totals: tuple[float, ...] = ()
    """The limits of z: the 1st and the 99th percentile of z over the fitted questions. Each question counts twice, with
    and without its evidence. If the tuple is empty, z has no limits."""

    def __post_init__(self) -> None:
        if len(self.source) != 3 or len(self.present) != 3 or len(self.misses) not in (0, len(LEVELS)):
            raise CoefficientsError(
                f"a calibration has 3 weights for a source, 3 weights for a question and {len(LEVELS)} shares of "
                f"missed evidence, got {len(self.source)}, {len(self.present)} and {len(self.misses)}"
            )
        if len(self.totals) not in (0, 2):
            raise CoefficientsError(f"a calibration has 2 limits of z or none, got {len(self.totals)}")

    def probabilities(self, scores: torch.Tensor, total: float) -> torch.Tensor:
        """Return, for each source, the probability that the source is evidence.

        A source with a higher score never has a lower probability.

        Args:
            scores: the scores of a question's sources, `(sources,)`, as `ScoutCoefficients.score` returns them.
            total: z, the log-sum-exp of the first scores.

        Returns:
            `(sources,)` float64.
        """
        first, second, third = self.source
        logits = first + max(second, 0.0) * scores.double().clamp(min=LEAST_SCORE).log() + third * self._limited(total)
        return logits.sigmoid()

    def probability_present(self, scores: torch.Tensor, total: float) -> float | None:
        """Return the probability that at least one source is evidence. It is None for fewer sources than `fewest`.

        The prior of this probability is one half: before the scores are seen, it is equally likely that there is
        evidence and that there is no evidence. The arguments are those of `probabilities`.
        """
        if len(scores) < self.fewest:
            return None
        first, second, third = self.present
        best = scores.double().clamp(min=LEAST_SCORE).max().log()
        return float(torch.sigmoid(first + second * self._limited(total) + third * best))

    def _limited(self, total: float) -> float:
        return min(max(total, self.totals[0]), self.totals[1]) if self.totals else total

    def level(self, recall: float) -> float:
        """Return the level for a wanted recall: the share of the summed probabilities that the kept sources must have.

        The expected recall is then at least `recall`, for questions like those that the calibration was measured on. If
        it was measured on too few questions, the level is 1, so that every source is kept.

        Args:
            recall: the wanted expected recall of evidence, below 1.

        Example:
            >>> misses = [0.2 if level < 0.8 else 0.02 for level in LEVELS]
            >>> some = Calibration((0.0, 1.0, 0.0), (0.0, 0.0, 0.0), tuple(misses), questions=99)
            >>> some.level(0.9), some.level(0.995)
            (0.8, 1.0)
        """
        allowed = 1 - recall
        for level, missed in zip(LEVELS, self.misses, strict=False):
            if (self.questions * missed + 1) / (self.questions + 1) <= allowed + 1e-12:
                return level
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as JSON values. `from_dict` reads these values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Make a calibration from JSON values.

        Raises:
            CoefficientsError: a value is missing, cannot be read, or has a wrong length.
        """
        try:
            source, present, misses = (tuple(map(float, values[name])) for name in ("source", "present", "misses"))
            questions, fewest = int(values["questions"]), int(values["fewest"])
            totals = tuple(map(float, values.get("totals", ())))
            return cls(source, present, misses, questions, fewest, values.get("measured", {}), totals)
        except (KeyError, TypeError, ValueError) as error:
            raise CoefficientsError(f"the calibration cannot be read ({error!r}): calibrate again") from error


def count_for_share(probabilities: Sequence[float], share: float) -> int:
    """Return how many of the most probable sources are needed to reach a share of the summed probabilities.

    Example:
        >>> count_for_share([0.1, 0.8, 0.1], 0.85)
        2
    """
    wanted, total, count = share * sum(probabilities), 0.0, 0
    for value in sorted(probabilities, reverse=True):
        if total >= wanted - 1e-12:
            break
        total += value
        count += 1
    return count
