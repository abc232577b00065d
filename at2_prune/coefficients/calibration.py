r"""Calibration: turns the scores of scout into probabilities, and a wanted recall into a set of sources.

For a question, let :math:`s(S)` be the score of source S, :math:`\theta \cdot x(S)` its first score (see
`ScoutCoefficients`), and :math:`z = \log \sum_S e^{\theta \cdot x(S)}` the log-sum-exp of the first scores. The
probability that source S is evidence is a logistic regression,

.. math:: P(S) = \sigma(a_0 + a_1 \log s(S) + a_2 z),

and the probability that at least one source is evidence is another one, :math:`\sigma(b_0 + b_1 z + b_2 \max_S \log
s(S))`. Both are fitted to cross-validated scores: each question is scored by coefficients that were fitted to the other
folds. `at2_prune.calibration.recalibrate` differs: it scores the questions with the given coefficients.

Very short texts can have a :math:`z` far below that of all fitted questions. So :math:`z` is first limited to the range
of the fitted questions. The two regressions assume different things. The first assumes that one question in ten has no
evidence among its sources. The second assumes that half of the questions have none. So the probability that any source
is evidence can be below the probability of a single source.

Sources are kept from the best one on, until their share of the summed probabilities reaches a level. Conformal risk
control (Angelopoulos et al. 2022, arXiv 2208.02814, equation 4) finds the level for a wanted recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..errors import CoefficientsError

__all__ = ["LEAST_SCORE", "LEVELS", "Calibration", "count_for_share"]

LEAST_SCORE = 1e-9
"""Smaller scores are replaced by this one before their logarithm is taken."""
LEVELS = (*(round(0.3 + 0.01 * i, 2) for i in range(70)), 0.995, 0.998, 0.999)
"""The shares of the summed probabilities at which the recall is measured."""


@dataclass(frozen=True)
class Calibration:
    """The calibration of one model's coefficients of scout.

    Example:
        >>> calibration = Calibration((3.0, 1.5, 0.0), (0.0, 1.0, 0.0), (), 0)
        >>> scores = torch.tensor([1.2, 0.1, 0.01])
        >>> [round(p, 2) for p in calibration.probabilities(scores, total=2.0).tolist()]
        [0.96, 0.39, 0.02]
    """

    source: tuple[float, ...]
    """:math:`a_0, a_1, a_2`."""
    present: tuple[float, ...]
    """:math:`b_0, b_1, b_2`."""
    misses: tuple[float, ...] = ()
    """For each of `LEVELS`, the mean share of a question's evidence that is not kept at this level."""
    questions: int = 0
    """The number of questions that `misses` is the mean of."""
    fewest: int = 0
    """The minimum number of sources for `probability_present`: half the 5th percentile of the number of sources in the
    fitted questions. With fewer sources, the total attention is lower, with or without evidence."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """The cross-validated measures."""
    totals: tuple[float, ...] = ()
    """The 1st and the 99th percentile of z in the fitted questions, with and without their evidence. z is limited to
    this range; empty for no limits."""

    def __post_init__(self) -> None:
        if len(self.source) != 3 or len(self.present) != 3 or len(self.misses) not in (0, len(LEVELS)):
            raise CoefficientsError(
                f"a calibration has 3 weights for a source, 3 for a question and {len(LEVELS)} shares of missed "
                f"evidence, got {len(self.source)}, {len(self.present)} and {len(self.misses)}"
            )
        if len(self.totals) not in (0, 2):
            raise CoefficientsError(f"a calibration has 2 limits of z or none, got {len(self.totals)}")

    def probabilities(self, scores: torch.Tensor, total: float) -> torch.Tensor:
        """Return the probability of each source that it is evidence.

        A source with a higher score never has a lower probability.

        Args:
            scores: the scores of a question's sources, `(sources,)`, as `ScoutCoefficients.score` returns them.
            total: the log-sum-exp of the first scores, z.

        Returns:
            `(sources,)` float64.
        """
        first, second, third = self.source
        logits = first + max(second, 0.0) * scores.double().clamp(min=LEAST_SCORE).log() + third * self._limited(total)
        return logits.sigmoid()

    def probability_present(self, scores: torch.Tensor, total: float) -> float | None:
        """Return the probability that at least one source is evidence, or None for fewer sources than `fewest`.

        Its prior is one half: before the scores are seen, evidence is assumed to be as likely as none.
        The arguments are those of `probabilities`.
        """
        if len(scores) < self.fewest:
            return None
        first, second, third = self.present
        best = scores.double().clamp(min=LEAST_SCORE).max().log()
        return float(torch.sigmoid(first + second * self._limited(total) + third * best))

    def _limited(self, total: float) -> float:
        return min(max(total, self.totals[0]), self.totals[1]) if self.totals else total

    def level(self, recall: float) -> float:
        """Return the share of the summed probabilities to keep, so that the expected recall is at least `recall`.

        The promise holds for questions like those that the calibration was measured on. If they are too few, the level
        is 1: every source is kept.

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
        """Return JSON values, which `from_dict` accepts."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Make a calibration from JSON values.

        Raises:
            CoefficientsError: a value is missing or has another length.
        """
        try:
            source, present, misses = (tuple(map(float, values[name])) for name in ("source", "present", "misses"))
            questions, fewest = int(values["questions"]), int(values["fewest"])
            totals = tuple(map(float, values.get("totals", ())))
            return cls(source, present, misses, questions, fewest, values.get("measured", {}), totals)
        except (KeyError, TypeError, ValueError) as error:
            raise CoefficientsError(f"the calibration cannot be read ({error!r}): calibrate again") from error


def count_for_share(probabilities: Sequence[float], share: float) -> int:
    """Return the number of the most probable sources that together have this share of the summed probabilities.

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
