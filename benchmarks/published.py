"""The code that AT2's authors published, from a developer's own copy beside the project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import Measurement, paired
from workload import Case, coefficients_of, endless, untouched

from at2_prune import LanguageModel

__all__ = ["published"]


def published(lm: LanguageModel, some: Case, draft: int, pairs: int, path: Path) -> Iterator[Measurement]:
    """Its drafting with attribution over plain `generate`, as ours is measured.

    Args:
        lm: of a family it knows: llama, qwen2, phi3, gemma3.
        some: the question.
        draft: tokens.
        pairs: how many times.
        path: the folder that holds its package `at2`.

    Raises:
        Exception: it cannot be imported, or cannot read this model.
    """
    sys.path.insert(0, str(path))
    weights_of = importlib.import_module("at2.attribution.attention").get_attention_weights
    coefficients = coefficients_of(lm, "at2")[0].weight[0].to(lm.device)  # (layers, heads)
    prompt = some.prompt
    ids = torch.tensor([prompt.ids], device=lm.device)
    model: Any = lm.model
    settings = {"max_new_tokens": draft, "do_sample": False, "pad_token_id": 0}

    def attributed() -> list[float]:
        mask = torch.ones_like(ids)
        output = model.generate(
            ids, attention_mask=mask, output_hidden_states=True, return_dict_in_generate=True, **settings
        )
        steps = output.hidden_states
        hidden = [torch.cat([step[layer] for step in steps], dim=1) for layer in range(len(steps[0]))]
        kind = model.config.get_text_config().model_type.removesuffix("_text")
        first = len(prompt)
        weights = weights_of(model, hidden, first, first + draft, model_type=kind)  # (layers, heads, rows, keys)
        scores = torch.einsum("lh,lhrk->k", coefficients.to(weights.dtype), weights) / draft
        return [float(scores[start:stop].sum()) for start, stop in prompt.sources]

    def plain() -> Any:
        return model.generate(ids, attention_mask=torch.ones_like(ids), **settings)

    inputs = {"model": lm.name, "device": str(lm.device), "tokens": len(prompt), "draft": draft}
    with endless(lm), untouched(lm):
        yield paired("published AT2: drafting with attribution / generate", inputs, attributed, plain, pairs)
