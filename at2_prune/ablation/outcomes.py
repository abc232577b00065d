"""Computes the outcomes of ablations. An outcome is the log-odds of a target when some sources are left out.

If the tokens of the target have the joint probability :math:`p`, the outcome is :math:`\\log p - \\log(1 - p)`
(ContextCite, arXiv 2409.00729; AT2, arXiv 2504.13752). Sources are left out in one of two ways. In AT2, an attention
mask hides the tokens of the sources, and the other tokens keep their positions. In pruning, the tokens of the sources
are removed, and later tokens move up.

In most models, it makes no difference whether tokens are masked or not run at all. The condition is that the other
tokens keep their position ids. In these models, the tokens that an ablation leaves out are not run. In models with
recurrent or convolution layers, the results differ. In such a model, an ablation with kept positions runs all tokens
under a mask.

On a CPU, ablations that agree on the first sources share one prefix cache (see `tree`). On a GPU, a pass over few
tokens takes about as long as a pass over many tokens, so whole ablations run in batches (see `whole`).
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
    """Return log p - log(1 - p) of each element, in float64. Values of p above 1 - 1e-12 count as 1 - 1e-12.

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
    """Return the log-odds of a target under each ablation.

    Args:
        language_model: the model.
        prompt: the prompt and its sources.
        target: the token ids that follow the prompt.
        masks: the masks of the ablations, `(ablations, sources)` bool, True where a source is kept.
        parts: token spans of the target, such as its sentences. Each part gets one outcome. By default, the only part
            is the whole target.
        positions: with "kept", the tokens of left-out sources are masked, and the other tokens keep their positions.
            With "closed", the tokens of left-out sources are removed, and later tokens move up.

    Returns:
        The log-odds, `(ablations, parts)` float64.

    Raises:
        InputError: the target is empty, the shape of the masks is wrong, or the prompt ends with a source.
        ModelNotSupportedError: the model's logits are NaN.
    """
    if not target:
        raise InputError("the target of an ablation is empty: it needs at least one token")
    if masks.dim() != 2 or not len(masks) or masks.shape[1] != len(prompt.sources):
        raise InputError(
            f"got masks of shape {tuple(masks.shape)} for {len(prompt.sources)} sources: the shape must be (ablations, "
            f"{len(prompt.sources)}), with at least one ablation"
        )
    if prompt.sources and prompt.sources[-1][1] == len(prompt):
        raise InputError(
            "the prompt ends with a source, so an ablation could leave out the token that predicts the target: put "
            "other text after the sources"
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
