"""Gradient x input: estimate the log-probability that the draft loses if a source's embeddings become zero.

The estimate is of first order. For the embeddings :math:`e_j` of a source's tokens and the draft's probability
:math:`p`, the score is

.. math:: \\sum_{j \\in S} e_j \\cdot \\nabla_{e_j} \\log p

(Denil et al. 2014, arXiv 1412.6815; Shrikumar et al. 2016, arXiv 1605.01713; for language models Yin and Neubig 2022,
arXiv 2202.10419). The score keeps its sign: a source that makes the draft less likely has a negative score.
"""

from __future__ import annotations

from typing import Any

import torch

from .base import Scorer, Task

__all__ = ["GradientXInputScorer"]


class GradientXInputScorer(Scorer):
    """Scores sources by the gradient times the input embedding, summed over the tokens of each source.

    One forward pass and one backward pass give the scores of all sources.
    """

    name = "gradient_x_input"
    uses_draft = True

    def score(self, task: Task) -> torch.Tensor:
        task.need_draft()
        language_model, target = task.language_model, task.draft.ids
        model = language_model.model
        options: dict[str, Any] = {"logits_to_keep": len(target)} if language_model.compatibility.keeps_logits else {}
        with torch.inference_mode(False), torch.enable_grad():
            ids = torch.tensor([[*task.prompt.ids, *target[:-1]]], device=language_model.device)
            expected = torch.tensor(target, device=language_model.device)
            embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
            logits = model(inputs_embeds=embeddings, use_cache=False, **options).logits[0, -len(target) :]
            log_p = logits.float().log_softmax(-1).gather(1, expected[:, None]).sum()
            (gradient,) = torch.autograd.grad(log_p, embeddings)
        by_token = (gradient.float() * embeddings.detach().float()).sum(-1)[0].cpu()  # (tokens,)
        return torch.stack([by_token[start:stop].sum() for start, stop in task.prompt.sources])
