"""The outcomes of ablations: the log-odds of a target when sources are left out.

If the tokens of the target have joint probability :math:`p`, the outcome is :math:`\\log p - \\log(1 - p)`
(ContextCite, arXiv 2409.00729; AT2, arXiv 2504.13752). Sources are left out in one of two ways. In AT2, an attention
mask hides their tokens, and all positions are kept. In pruning, their tokens are removed.

In most models, a masked token and a removed token give the same result if the other tokens keep their position ids. In
these models, tokens that are left out are not run. In models with recurrent or convolution layers the results differ.
There, ablations with kept positions run all tokens under a mask.

On a CPU, ablations that keep the same first sources share one prefix cache (see `tree`). On a GPU, a pass over few
tokens takes about as long as a pass over many, so whole ablations run in batches (see `whole`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..attention.hooks import enable_attention_reading
from ..errors import InputError
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from .run import Positions, Run
from .tree import Tree
from .whole import run_alone, run_in_batches, run_masked

__all__ = ["ablation_outcomes", "log_odds"]


def log_odds(log_probability: torch.Tensor) -> torch.Tensor:
    """Return log p - log(1 - p), elementwise, in float64. Values of p above 1 - 1e-12 count as 1 - 1e-12.

    Example:
        >>> [round(x, 4) for x in log_odds(torch.tensor([0.5, 0.9], dtype=torch.float64).log()).tolist()]
        [0.0, 2.1972]
    """
    log_p = log_probability.double().clamp(max=-1e-12)
    return log_p - torch.log(-torch.expm1(log_p))


@torch.inference_mode()
def ablation_outcomes(
    language_model: LanguageModel,
    prompt: EncodedPrompt,
    target: Sequence[int],
    masks: torch.Tensor,
    parts: Sequence[tuple[int, int]] | None = None,
    positions: Positions = "kept",
) -> torch.Tensor:
    """Compute the log-odds of the target under each ablation.

    Args:
        language_model: the model.
        prompt: the prompt and its sources.
        target: the token ids that follow the prompt.
        masks: the ablations, `(ablations, sources)` bool, True where a source is kept.
        parts: spans of the target that get one outcome each, such as sentences; by default the whole target.
        positions: "kept" leaves sources out by attention mask and keeps all positions. "closed" removes the tokens of
            these sources, so that later tokens move up.

    Returns:
        Log-odds `(ablations, parts)` float64.

    Raises:
        InputError: the target is empty, the shape of the masks is wrong, or the prompt ends in a source.
        ModelNotSupportedError: the model's logits are NaN.
    """
    if not target:
        raise InputError("the target of an ablation is empty: it needs at least one token")
    if masks.dim() != 2 or not len(masks) or masks.shape[1] != len(prompt.sources):
        raise InputError(
            f"masks of shape {tuple(masks.shape)} for {len(prompt.sources)} sources: they must have shape (ablations, "
            f"{len(prompt.sources)}), with at least one ablation"
        )
    if prompt.sources and prompt.sources[-1][1] == len(prompt):
        raise InputError(
            "the prompt ends in a source, so an ablation could leave out the token that predicts the target: end the "
            "prompt with other text"
        )
    enable_attention_reading(language_model.model)
    run = Run(language_model, prompt, target, masks.tolist(), positions)
    allowed = language_model.compatibility
    if allowed.carries_state and positions == "kept":
        run_masked(run)
    elif not allowed.shares_prefixes:
        run_alone(run)
    elif not language_model.batching_pays:
        Tree(run).walk()
    elif allowed.pads_exactly:
        run_in_batches(run)
    else:
        run_alone(run)
    log_p = run.log_probabilities()
    spans = parts or [(0, len(target))]
    return log_odds(torch.stack([log_p[:, start:stop].sum(1) for start, stop in spans], dim=1))
