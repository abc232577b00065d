"""Fit head coefficients to ablation outcomes. `fidelity` measures how well coefficients predict such outcomes.

Source :math:`s` has attention mass :math:`m(s)`, one number for each row group, layer and head. The score of the source
is :math:`\\theta \\cdot m(s)`, where :math:`\\theta` are the coefficients. Ablation :math:`i` has a mask :math:`v_i`.
The entry :math:`v_{i,s}` of the mask is 1 if source :math:`s` is kept, and -1 if source :math:`s` is left out. The
target is a draft, a sentence of a draft, or the known answer. The outcome :math:`y_i` is the target's log-odds under
ablation :math:`i`. The prediction of this outcome is :math:`\\hat y_i = \\sum_s v_{i,s}\\, \\theta \\cdot m(s)`. The
loss is the negative Pearson correlation of predictions and outcomes over :math:`i`, averaged over all targets (AT2,
arXiv 2504.13752, section 3 and appendix A).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..attention.rows import RowGroup
from ..errors import DataError, MissingExtraError
from .examples import Example

__all__ = ["Fidelity", "FitSettings", "fidelity", "fit"]


@dataclass(frozen=True)
class FitSettings:
    """The settings of the fit to ablations. The defaults are the values that AT2's authors published."""

    steps: int = 1000
    """The number of steps of Adam."""
    learning_rate: float = 1e-3
    """The learning rate at the first step. It then falls to zero along a cosine."""
    batch_size: int = 512
    """The number of targets in a batch."""
    seed: int = 0
    """The seed of the batches."""


@dataclass(frozen=True)
class Fidelity:
    """The agreement of scores with ablation outcomes. Each field has one value for each target whose outcomes vary.

    The text at the top of this module defines predictions and outcomes.
    """

    lds: torch.Tensor
    """The linear datamodeling score: the Spearman correlation of predictions and outcomes."""
    correlation: torch.Tensor
    """The Pearson correlation of predictions and outcomes."""


def _features(example: Example, groups: Sequence[RowGroup]) -> torch.Tensor:
    """Return, for each ablation, the attention mass of the kept sources minus the attention mass of the other sources.

    Returns:
        `(parts, ablations, row groups x layers x heads)`.
    """
    parts = example.outcomes.shape[1]
    mass = torch.stack([example.mass[g.name].expand(parts, -1, -1, -1) for g in groups], dim=1)  # (P, G, L, H, S)
    signs = example.masks.float() * 2 - 1  # (ablations, sources)
    return torch.einsum("as,pglhs->paglh", signs, mass).flatten(2)


def _correlation(predictions: torch.Tensor, outcomes: torch.Tensor) -> torch.Tensor:
    """Return the Pearson correlation along the last dimension. It is 0 if predictions or outcomes do not vary."""
    p = predictions - predictions.mean(-1, keepdim=True)
    y = outcomes - outcomes.mean(-1, keepdim=True)
    return (p * y).sum(-1) / (p.norm(dim=-1) * y.norm(dim=-1) + 1e-8)


def fit(
    examples: Sequence[Example],
    groups: Sequence[RowGroup],
    settings: FitSettings = FitSettings(),
    progress: Callable[[int, float], None] = lambda step, correlation: None,
) -> tuple[torch.Tensor, list[tuple[int, float]]]:
    """Fit coefficients that maximise the mean correlation of predictions and outcomes within each target.

    The optimiser is Adam with a cosine schedule. All weights are equal at the start.

    Args:
        examples: the examples. All must have the same number of ablations, and the same layers and heads.
        groups: the row groups for which coefficients are fitted.
        settings: the settings of the fit.
        progress: a function that is called every 50 steps and at the last step, with the step and the training
            correlation.

    Returns:
        The weight `(row groups, layers, heads)` with L1 norm 1, and the training curve `[(step, correlation)]`.

    Raises:
        DataError: there is no example whose outcomes vary.
    """
    usable = [example for example in examples if bool((example.outcomes.std(0) > 0).any())]
    if not usable:
        raise DataError(f"no example to fit: {len(examples)} were collected, and none has outcomes that vary")
    shape = (len(groups), *usable[0].mass[groups[0].name].shape[1:3])
    features = torch.cat([_features(example, groups) for example in usable])  # (targets, ablations, features)
    outcomes = torch.cat([example.outcomes.T for example in usable]).float()  # (targets, ablations)
    weight = torch.full((features.shape[-1],), 1 / features.shape[-1], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    curve = []
    for step in range(settings.steps):
        batch = torch.randperm(len(features), generator=generator)[: settings.batch_size]
        correlation = _correlation(features[batch] @ weight, outcomes[batch]).mean()
        if step % 50 == 0 or step == settings.steps - 1:
            curve.append((step, round(correlation.item(), 4)))
            progress(step, correlation.item())
        optimizer.zero_grad()
        (-correlation).backward()
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        optimizer.step()
        schedule.step()
    final = weight.detach()
    return (final / final.abs().sum()).reshape(shape), curve


def fidelity(examples: Sequence[Example], groups: Sequence[RowGroup], weight: torch.Tensor) -> Fidelity:
    """Measure the fidelity of coefficients on examples that they were not fitted to.

    Args:
        examples: the examples.
        groups: the row groups that the weight belongs to.
        weight: the weight `(row groups, layers, heads)`.

    Returns:
        The fidelity, with one value for each target whose outcomes vary.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.stats import ConstantInputWarning, spearmanr
    except ImportError:
        raise MissingExtraError("scipy", "train", "Measuring fidelity") from None
    lds, correlation = [], []
    for example in examples:
        predictions = _features(example, groups) @ weight.flatten()  # (parts, ablations)
        for predicted, outcome in zip(predictions, example.outcomes.T, strict=True):
            if outcome.std() > 0:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConstantInputWarning)
                    rank = float(spearmanr(predicted.numpy(), outcome.numpy()).statistic)
                lds.append(0.0 if rank != rank else rank)
                correlation.append(_correlation(predicted.double(), outcome).item())
    return Fidelity(torch.tensor(lds), torch.tensor(correlation))
