"""AT2 (arXiv 2504.13752): learned head coefficients on attention mass."""

from __future__ import annotations

import torch

from ..coefficients import HeadCoefficients
from ..errors import EmptyDraftError
from .base import Task

__all__ = ["AT2Scorer"]


class AT2Scorer:
    """Scores sources by head coefficients: one inner product a source, no forward pass of its own."""

    name = "at2"

    def __init__(self, coefficients: HeadCoefficients) -> None:
        self.coefficients = coefficients
        self.row_groups = coefficients.row_groups

    def score(self, task: Task) -> torch.Tensor:
        if any(group.rows == "draft" for group in self.row_groups) and not task.draft.ids:
            raise EmptyDraftError("the draft is empty, so there is nothing to attribute")
        return self.coefficients.score(task.draft.mass, task.draft.layers)
