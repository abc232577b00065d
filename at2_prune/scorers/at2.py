"""AT2 (arXiv 2504.13752): learned head coefficients on attention mass."""

from __future__ import annotations

import torch

from ..coefficients import HeadCoefficients
from .base import Task

__all__ = ["AT2Scorer"]


class AT2Scorer:
    """Scores sources by head coefficients: one inner product a source, no forward pass of its own.

    Args:
        coefficients: learned weights, whose row groups say what is read.
        name: what the method is called in results, where several coefficients are compared.
    """

    uses_draft = True

    def __init__(self, coefficients: HeadCoefficients, name: str = "at2") -> None:
        self.coefficients = coefficients
        self.name = name
        self.row_groups = coefficients.row_groups

    def score(self, task: Task) -> torch.Tensor:
        if any(group.rows == "draft" for group in self.row_groups):
            task.need_draft()
        return self.coefficients.score(task.draft.mass, task.draft.layers)
