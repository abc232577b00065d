"""AT2 (arXiv 2504.13752), and what learned coefficients on other rows make of it."""

from __future__ import annotations

import torch

from ..coefficients import HeadCoefficients, RowGroup
from ..draft import read_prompt
from .base import Task

__all__ = ["AT2Scorer"]


class AT2Scorer:
    """Scores sources by head coefficients.

    With rows of the draft, all that it weighs is read while the draft is written, and scoring is one inner product a
    source. Without them no draft is needed: one forward pass over the prompt ends with the last layer that has
    coefficients.

    Args:
        coefficients: learned weights, whose row groups say what is read.
        name: what the method is called in results, where several coefficients are compared.
    """

    def __init__(self, coefficients: HeadCoefficients, name: str = "at2") -> None:
        self.coefficients = coefficients
        self.name = name
        self.uses_draft = coefficients.uses_draft
        self.row_groups: tuple[RowGroup, ...] = coefficients.row_groups if self.uses_draft else ()

    def score(self, task: Task) -> torch.Tensor:
        coefficients = self.coefficients
        if self.uses_draft:
            task.need_draft()
            return coefficients.score(task.draft.mass, task.draft.layers)
        read = read_prompt(task.language_model, task.prompt, coefficients.row_groups, coefficients.layers)
        return coefficients.score(read.mass, read.layers)
