"""AT2 (arXiv 2504.13752), and what learned coefficients on other rows make of it."""

from __future__ import annotations

import torch

from ..attention.rows import RowGroup
from ..coefficients.head_coefficients import HeadCoefficients
from ..models.drafts import read_prompt
from .base import Task

__all__ = ["AT2Scorer"]


class AT2Scorer:
    """Scores sources by head coefficients.

    With rows of the draft, all that it weighs is read while the draft is written, and scoring is one inner product a
    source. Without them no draft is needed: one forward pass over the prompt ends with the last layer that is read.
    Layers whose coefficients are all zero are not read.

    Args:
        coefficients: learned weights, whose row groups say what is read.
        name: what the method is called in results, where several coefficients are compared.
    """

    def __init__(self, coefficients: HeadCoefficients, name: str = "at2") -> None:
        self.coefficients = coefficients
        self.name = name
        self.uses_draft = coefficients.uses_draft
        self.row_groups: tuple[RowGroup, ...] = coefficients.row_groups if self.uses_draft else ()
        self.prompt_groups: tuple[RowGroup, ...] = () if self.uses_draft else coefficients.row_groups
        self._weighed = _without_zero_layers(coefficients)
        self.layers = self._weighed.layers

    def score(self, task: Task) -> torch.Tensor:
        coefficients = self._weighed
        if self.uses_draft:
            task.need_draft()
            return coefficients.score(task.draft.mass, task.draft.layers)
        read = task.read or read_prompt(task.language_model, task.prompt, self.prompt_groups, self.layers, task.prefix)
        return coefficients.score(read.mass, read.layers)


def _without_zero_layers(coefficients: HeadCoefficients) -> HeadCoefficients:
    used = coefficients.weight.abs().sum((0, 2)).nonzero()[:, 0].tolist()
    if not used:
        return coefficients
    return HeadCoefficients(
        coefficients.weight[:, used],
        coefficients.row_groups,
        [coefficients.layers[place] for place in used],
        coefficients.model_name,
        coefficients.model_type,
        model_layers=coefficients.model_layers,
    )
