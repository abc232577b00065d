"""Comparison with the code that the authors of AT2 published, from a copy on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comparisons import drafting
from measuring import Measurement, paired
from workload import QWEN, Case, case, coefficients_of, device_of, endless, load_model, untouched

from at2_prune import LanguageModel
from at2_prune.models.drafts import write_drafts
from at2_prune.scorers import LearnedScorer, Task

__all__ = ["published"]


def published(passages: int, draft: int, pairs: int, path: Path) -> Iterator[Measurement]:
    """Time the published drafting with attribution, and ours, each divided by plain `generate`. Compare the scores.

    Args:
        passages: the number of passages.
        draft: the number of tokens of the draft.
        pairs: how many times both ways are run.
        path: the folder that holds the published package `at2`.

    Raises:
        Exception: the code cannot be loaded, or does not work with the installed transformers.
    """
    lm = load_model(QWEN)
    some = case(lm, passages)
    attributed, plain = _ways(lm, some, draft, _weights_of(path))
    inputs = {"model": lm.name, "device": device_of(lm), "tokens": len(some.prompt), "draft": draft}
    with endless(lm), untouched(lm):
        yield paired("published AT2: drafting with attribution / generate", inputs, attributed, plain, pairs)
        theirs = torch.tensor(attributed())
    for ours in drafting(lm, some, draft, pairs, None):
        yield replace(ours, name=f"at2-prune beside it: {ours.name}")
    with endless(lm):
        scorer = LearnedScorer(coefficients_of(lm, "at2")[0])
        written = write_drafts(lm, [some.prompt], scorer.row_groups, draft)[0]
        scores = scorer.score(Task(lm, some.question, some.passages, some.prompt, written))
    gap = float((scores - theirs).abs().max() / theirs.abs().max())
    yield Measurement("published AT2: largest difference of scores to ours, relative", inputs, gap, gap, gap)


def _weights_of(path: Path) -> Callable[..., torch.Tensor]:
    """Load the published function from hidden states to attention weights, without its package's requirements."""
    file = path / "at2" / "attribution" / "attention.py"
    spec = importlib.util.spec_from_file_location("at2_attention", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_attention_weights


def _ways(
    lm: LanguageModel, some: Case, draft: int, weights_of: Callable[..., torch.Tensor]
) -> tuple[Callable[[], Any], Callable[[], Any]]:
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

    return attributed, plain
