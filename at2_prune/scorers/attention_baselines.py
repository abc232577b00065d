"""Score sources by the attention of the draft's rows, with the same weight for every head."""

from __future__ import annotations

import torch

from ..attention.measures import Measure
from ..attention.rows import RowGroup
from .base import Scorer, ScorerOptions, Task

__all__ = ["AttentionScorer"]


class AttentionScorer(Scorer):
    """Scores sources by the attention mass of the draft's rows, averaged over heads.

    With the measure `attention`, this score is average attention, the baseline in the AT2 paper (arXiv 2504.13752,
    section 4). `at2_prune.attention.measures` defines the other measures.

    `at2_prune.training.fit` learns a coefficient for each head, and all coefficients are equal at the start. So with
    only the row group `draft`, the scores at the start rank sources as average attention does.

    Args:
        measure: the quantity that is summed over a source's tokens.
        last_layer: True to average over the heads of the last layer that has attention, and False to average over the
            heads of all layers.
        name: the method's name in results.
    """

    uses_draft = True

    def __init__(
        self, measure: Measure = "attention", last_layer: bool = False, name: str = "average_attention"
    ) -> None:
        self.name = name
        self._last_layer = last_layer
        self._group = RowGroup("draft", measure=measure)
        self.row_groups = (self._group,)

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> AttentionScorer:
        return cls(**settings, name=name)  # type: ignore[arg-type]

    def score(self, task: Task) -> torch.Tensor:
        mass = task.draft_readout().mass[self._group].float()  # (layers, heads, sources)
        return (mass[-1].mean(0) if self._last_layer else mass.mean((0, 1))).cpu()
