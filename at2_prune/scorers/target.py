"""The draft's log-probability as a function of embeddings, for scorers that need gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .base import Task

__all__ = ["differentiable", "draft_logits", "embeddings_of", "log_probability"]


@contextmanager
def differentiable() -> Iterator[None]:
    """Allow gradients of gradients. Fused attention kernels do not support these, so PyTorch's math kernel is used."""
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def embeddings_of(task: Task) -> torch.Tensor:
    """Return the embeddings of the prompt and the draft, without the draft's last token, `(1, tokens, width)`."""
    model = task.language_model
    ids = torch.tensor([[*task.prompt.ids, *task.draft.ids[:-1]]], device=model.device)
    return model.model.get_input_embeddings()(ids).detach()


def draft_logits(task: Task, embeddings: torch.Tensor) -> torch.Tensor:
    """Run the model on embeddings, and return the logits that predict the draft, `(draft tokens, vocabulary)`."""
    model, count = task.language_model, len(task.draft.ids)
    options: dict[str, Any] = {"logits_to_keep": count} if model.compatibility.keeps_logits else {}
    return model.model(inputs_embeds=embeddings, use_cache=False, **options).logits[0, -count:].float()


def log_probability(task: Task, logits: torch.Tensor) -> torch.Tensor:
    """Return the draft's log-probability, a scalar, from the logits that predict the draft."""
    expected = torch.tensor(task.draft.ids, device=logits.device)
    return logits.log_softmax(-1).gather(1, expected[:, None]).sum()
