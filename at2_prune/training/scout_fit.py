"""Fit scout's coefficients to supporting passages.

Scout chooses supporting passages in two steps; see `ScoutCoefficients`. There is one fit for each step. The first fit
learns to find a supporting passage by the features of passages. In the second fit, one supporting passage is known.
This fit learns to find the other supporting passages by their features and by their links to the known passage. Both
fits are multinomial logistic regressions; see `at2_prune.training.choices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..coefficients.scout_coefficients import CosineFeature, ScoutCoefficients
from ..errors import DataError, InputError
from ..passage_index.records import DEFAULT_PRECISION, Precision
from .choices import Choice, fit_choices
from .examples import Example

__all__ = ["ScoutSettings", "fit_scout"]


@dataclass(frozen=True)
class ScoutSettings:
    """The settings with which scout's coefficients are learned."""

    layers: tuple[int, ...] = ()
    """The indices of the layers whose keys are stored. The default is two layers of the model's first third: the middle
    layer and the last layer of this third."""
    link_layers: tuple[int, ...] = ()
    """The indices of the layers whose attention gives the links between passages. They must be among `layers`. The
    default is the last of `layers`."""
    penalty: float = 0.03
    """The L2 penalty in both fits. It applies to the coefficients of features that are scaled to unit variance."""
    balance: float = 0.5
    """The exponent that turns a data set's number of examples into its weight: weight = number ** balance. With 0, all
    data sets have the same weight."""
    steps: int = 200
    """The maximum number of steps of L-BFGS."""
    precision: Precision = DEFAULT_PRECISION
    """The precision in which keys are stored."""
    embedder: str | None = None
    """The embedder whose cosine is a feature too, for the method scout_dense. With None, there is no such feature."""
    holdout: float = 0.15
    """The share of questions that are held out. The coefficients are measured on these questions."""

    def resolved(self, depth: int | None) -> ScoutSettings:
        """Return the settings with every default filled in for a model with `depth` layers.

        Raises:
            InputError: a layer does not exist, a link layer is not among the layers, or `holdout` is out of range.
        """
        third = max(1, (depth or 1) // 3)
        layers = tuple(sorted(set(self.layers or (third // 2, third - 1))))
        linked = tuple(sorted(set(self.link_layers or layers[-1:])))
        if not all(0 <= layer < (depth or layer + 1) for layer in layers) or not set(linked) <= set(layers):
            below = "" if depth is None else f" and below {depth}"
            raise InputError(
                f"layers must be at least 0{below}, and every link layer must be one of the layers; got layers "
                f"{list(layers)} and link layers {list(linked)}"
            )
        if not 0 <= self.holdout < 1:
            raise InputError(f"holdout must be at least 0 and less than 1, got {self.holdout}")
        return replace(self, layers=layers, link_layers=linked)


def fit_scout(data: Sequence[Sequence[Example]], settings: ScoutSettings) -> ScoutCoefficients:
    """Fit scout's coefficients to the examples of one or more data sets.

    Raises:
        DataError: no example has both supporting passages and other passages.
    """
    first: list[Choice] = []
    usable: list[tuple[Example, float]] = []
    for examples in data:
        some = [example for example in examples if bool(example.gold.any()) and not bool(example.gold.all())]
        usable += [(example, len(some) ** (settings.balance - 1)) for example in some]
    if not usable:
        raise DataError("no example to fit: none has both supporting passages and other passages")
    for example, weight in usable:
        first.append(Choice(_own(example), example.gold, weight))
    shape = usable[0][0].mass["question"].shape[:3]
    size = shape.numel()
    theta = fit_choices(first, settings.penalty, settings.steps)
    later = [choice for example, weight in usable for choice in _later(example, theta, weight)]
    links = usable[0][0].mass["links"].shape[1:4]
    if later:
        both = fit_choices(later, settings.penalty, settings.steps)
    else:  # every question has only one supporting passage
        both = torch.cat([theta, torch.zeros(links.numel())])
    eta, linked = both[: len(theta)], both[len(theta) :]
    weights, following = theta[:size].reshape(shape), eta[:size].reshape(shape)
    found = ScoutCoefficients(weights, following, linked.reshape(links), settings.layers, settings.link_layers)
    if usable[0][0].cosines is None:
        return found
    return replace(found, cosine=CosineFeature(float(theta[size]), float(eta[size]), settings.embedder or "", ()))


def _later(example: Example, theta: torch.Tensor, weight: float) -> list[Choice]:
    """Return an example's observations for the second fit. Each observation has a different known passage.

    The first fit gives each supporting passage a probability of being the known passage. The weight of an observation
    is the weight of the example times the probability of its known passage.
    """
    features = _own(example)
    known = example.gold.nonzero()[:, 0]
    if len(known) < 2:
        return []
    shares = (features[known].double() @ theta.double()).softmax(0).tolist()
    found = []
    for source, share in zip(known.tolist(), shares, strict=True):
        others = torch.arange(len(features)) != source
        both = torch.cat([features, _flat(example.mass["links"][source])], 1)
        found.append(Choice(both[others], example.gold[others], weight * share))
    return found


def _own(example: Example) -> torch.Tensor:
    """Return the features of an example's sources, `(sources, features)`. If there is a cosine, it is the last one."""
    features = _flat(example.mass["question"])
    return features if example.cosines is None else torch.cat([features, example.cosines[:, None]], 1)


def _flat(features: torch.Tensor) -> torch.Tensor:
    """Reshape `(groups, layers, heads, sources)` to `(sources, features)`."""
    return features.flatten(0, 2).T
