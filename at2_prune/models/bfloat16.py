"""Copies a float32 model to bfloat16, if the processor computes fast in bfloat16."""

from __future__ import annotations

import copy
from typing import Any

import torch

from .language_model import LanguageModel

__all__ = ["bfloat16_copy", "fast_in_bfloat16"]


def fast_in_bfloat16() -> bool:
    """Return whether the processor has matrix units for bfloat16 (Intel AMX) that PyTorch knows of."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def bfloat16_copy(language_model: LanguageModel) -> LanguageModel:
    """Return a copy of a model in bfloat16, or the model itself if a copy would not help.

    A copy is made if a float32 model is on the CPU, the processor is fast in bfloat16, and bfloat16 holds every weight
    exactly. The weights of most models are published in bfloat16. The copy takes half of the model's memory.
    """
    model = language_model.model
    weights = list(model.state_dict().values())
    if language_model.device.type != "cpu" or model.dtype != torch.float32 or not fast_in_bfloat16():
        return language_model
    if not all(torch.equal(one, one.bfloat16().to(one.dtype)) for one in weights if one.is_floating_point()):
        return language_model
    copied = copy.deepcopy(model).to(torch.bfloat16)  # type: ignore[call-arg,arg-type]
    return LanguageModel(copied, language_model.tokenizer, language_model.template, language_model.name)
