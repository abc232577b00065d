"""Fits head coefficients to evidence: the supporting passages that the data names.

Source :math:`s` has attention mass :math:`m(s)`, one number for each row group, layer and head. Its score is
:math:`\\theta \\cdot m(s)`, where :math:`\\theta` are the coefficients. A softmax over a question's sources turns the
scores into probabilities. The fit maximises the mean log-probability of the supporting sources, with an L2 penalty on
the coefficients of standardised features. This is multinomial logistic regression, and listwise ranking as in ListNet
(Cao et al., ICML 2007).

Next, the coefficients of the row group `sources` are fitted. They weight the attention between two sources, called a
link (see `HeadCoefficients`). Each supporting source in turn is treated as already found. Every other source gets its
score from the first fit, plus its weighted link to the found source. The second fit maximises the mean log-probability
of the remaining supporting sources under these sums. Both problems are convex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..attention.rows import RowGroup
from ..coefficients.head_coefficients import HeadCoefficients
from ..errors import DataError, InputError
from .choices import Choice, fit_choices, recall_at
from .examples import Example

__all__ = ["EvidenceSettings", "fit_evidence", "gold_found"]


@dataclass(frozen=True)
class EvidenceSettings:
    """The settings of the fit to evidence."""

    penalty: float = 0.01
    """The L2 penalty on coefficients of features with unit variance."""
    link_penalty: float = 0.03
    """The L2 penalty on the coefficients of links."""
    steps: int = 200
    """The maximum number of L-BFGS steps."""


def fit_evidence(
    examples: Sequence[Example],
    groups: Sequence[RowGroup],
    layers: Sequence[int],
    settings: EvidenceSettings = EvidenceSettings(),
) -> torch.Tensor:
    """Fit coefficients to the gold sources of examples, which are the supporting sources.

    Args:
        examples: the examples. Examples without gold sources, or with gold sources only, are skipped.
        groups: the row groups to fit. At least one must hold other rows than `sources`.
        layers: the layers to use, as indices into the layers that were read.
        settings: the settings of the fit.

    Returns:
        The weight `(row groups, layers, heads)`, with L1 norm 1.

    Raises:
        InputError: all row groups hold the rows `sources`.
        DataError: no example has both gold sources and others.
    """
    first = [group for group in groups if group.rows != "sources"]
    links = [group for group in groups if group.rows == "sources"]
    if not first:
        raise InputError(
            "the row group 'sources' (attention between sources) cannot rank sources alone: add another row group, "
            "such as 'question'"
        )
    usable = [example for example in examples if bool(example.gold.any()) and not bool(example.gold.all())]
    if not usable:
        raise DataError(f"no example to fit: {len(examples)} collected, none with gold sources and others")
    masses = [torch.cat([_mass(example, group, layers) for group in first]) for example in usable]
    nothing = [torch.zeros(mass.shape[1]) for mass in masses]
    weight = fit_choices(
        [Choice(m.T, e.gold, zero) for m, e, zero in zip(masses, usable, nothing, strict=True)],
        settings.penalty,
        settings.steps,
    )
    heads = usable[0].mass[groups[0].name].shape[2]
    shape = (len(layers), heads)
    found = dict(zip(first, weight.reshape(len(first), *shape), strict=True))
    if links:
        choices = []
        for example, mass in zip(usable, masses, strict=True):
            scores = weight @ mass
            between = torch.cat([_mass(example, group, layers) for group in links])  # (features, sources, sources)
            for known in example.gold.nonzero()[:, 0].tolist():
                others = torch.arange(len(scores)) != known
                right = example.gold[others]
                if right.any() and not right.all():
                    both = (between[:, known] + between[:, :, known]).T  # one term is zero, as no row sees later tokens
                    choices.append(Choice(both[others], right, scores[others]))
        if choices:
            found |= zip(
                links, fit_choices(choices, settings.link_penalty, settings.steps).reshape(-1, *shape), strict=True
            )
        else:
            found |= {group: torch.zeros(shape) for group in links}
    result = torch.stack([found[group] for group in groups])
    return result / result.abs().sum()


def gold_found(
    examples: Sequence[Example], groups: Sequence[RowGroup], weight: torch.Tensor, k: int = 2
) -> dict[str, torch.Tensor]:
    """Measure the share of each example's gold sources that are among the k best sources.

    Args:
        examples: the examples. Examples without gold sources are skipped.
        groups: the row groups of the weight.
        weight: the weight `(row groups, layers, heads)`.
        k: the number of sources to keep.

    Returns:
        `gold_recall`, the share of the gold sources that are kept, and `both_gold`, which is 1 if all gold sources are
        kept, else 0. Each is `(examples with gold sources,)`.
    """
    layers = list(range(weight.shape[1]))
    coefficients = HeadCoefficients(weight, groups, layers)
    recalls = []
    for example in examples:
        if example.gold.any():
            scores = coefficients.score({group: example.mass[group.name][0] for group in groups}, layers)
            recalls.append(recall_at(scores, example.gold, k))
    recall = torch.tensor(recalls)
    return {"gold_recall": recall, "both_gold": (recall == 1).float()}


def _mass(example: Example, group: RowGroup, layers: Sequence[int]) -> torch.Tensor:
    """Return the mass of the first part, `(layers x heads, sources)`.

    For the rows `sources`, it is `(layers x heads, sources, sources)`.
    """
    return example.mass[group.name][0, list(layers)].flatten(0, 1)
