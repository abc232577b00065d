"""Score sources with learned head coefficients, as AT2 does (arXiv 2504.13752), for any measure of attention."""

from __future__ import annotations

import torch

from ..coefficients.head_coefficients import HeadCoefficients
from ..errors import InputError
from .base import Scorer, ScorerOptions, Task

__all__ = ["LearnedScorer"]


class LearnedScorer(Scorer):
    """Scores sources with learned head coefficients.

    The attention is read while the draft is written. The score of a source is then one inner product. A layer is
    not read if all of its coefficients are zero. If the coefficients of all layers are zero, all layers are read.

    Args:
        coefficients: the head coefficients. The attention of their row groups is read.
        name: the method's name in results.
    """

    def __init__(self, coefficients: HeadCoefficients, name: str = "at2") -> None:
        self.coefficients = coefficients
        self.name = name
        self.row_groups = coefficients.row_groups
        # The config of an evaluation run records most of a scorer's public instance attributes. `uses_draft` must stay
        # an instance attribute, because configs of version 0.1.0 contain it.
        self.uses_draft = True
        self._weighed = _without_zero_layers(coefficients)
        self.layers = self._weighed.layers

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> LearnedScorer:
        coefficients = options.coefficients[name]
        if not isinstance(coefficients, HeadCoefficients):
            raise InputError(f"the method {name} needs head coefficients, got {type(coefficients).__name__}")
        return cls(coefficients, name)

    def score(self, task: Task) -> torch.Tensor:
        readout = task.draft_readout()
        return self._weighed.score(readout.mass, readout.layers)


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
