"""Ablations whole, from the first token to the last: where sharing what they have in common is wrong, or slower."""

from __future__ import annotations

from typing import Any

import torch

from ..forward import run_piece
from ..interface import original_positions
from .run import Run

__all__ = ["run_alone", "run_in_batches", "run_masked"]

TOKENS_AT_ONCE = 16384
"""Of a batch, padding included: enough to keep a large GPU busy, and some gigabytes of a large model's activations."""
LOGITS_AT_ONCE = 256
"""Rows that go through the output layer together: 256 MiB in float32 for 262,144 tokens."""


def run_in_batches(run: Run) -> None:
    """Several ablations in a pass, padded on the left; those of like length together, so that little is padding."""
    left = {mask: run.left(mask) for mask in run.same}
    waiting = sorted(left, key=lambda mask: len(left[mask]))
    rows = len(run.target)
    while waiting:
        width = len(left[waiting[-1]])
        logits = rows if run.language_model.keeps_logits else width
        size = max(1, min(TOKENS_AT_ONCE // width, LOGITS_AT_ONCE // logits))
        batch, waiting = waiting[-size:], waiting[:-size]
        _run_batch(run, batch, [left[mask] for mask in batch], width)


def _run_batch(run: Run, batch: list[tuple[bool, ...]], left: list[list[int]], width: int) -> None:
    padding = [width - len(tokens) for tokens in left]
    rows, device = len(run.target), run.target.device
    ids = [[0] * n + [run.ids[i] for i in tokens] for n, tokens in zip(padding, left, strict=True)]
    at = [range(len(tokens)) if run.closed else tokens for tokens in left]
    places = torch.tensor([[*range(-n, 0), *some] for n, some in zip(padding, at, strict=True)], device=device)
    options: dict[str, Any] = {"logits_to_keep": rows} if run.language_model.keeps_logits else {}
    with original_positions(places):
        logits = run.language_model.model(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=(places >= 0).long(),
            position_ids=places.clamp(min=0),
            use_cache=False,
            **options,
        ).logits
    for mask, item in zip(batch, logits, strict=True):
        run.record(mask, item[-rows:])


def run_alone(run: Run) -> None:
    """One after the other, the tokens left out never run: for positions that depend on how long the text gets."""
    for mask in run.same:
        left = run.left(mask)
        places = torch.tensor([*range(len(left))] if run.closed else left, device=run.target.device)
        with original_positions(places):
            ids = [run.ids[i] for i in left]
            run.record(mask, run_piece(run.language_model, ids, None, places, len(run.target))[0])


def run_masked(run: Run) -> None:
    """One after the other, with what is left out behind an attention mask: a recurrent layer passes over it all the
    same, as it does in the published code."""
    device = run.target.device
    ids, places = torch.tensor([run.ids], device=device), torch.arange(len(run.ids), device=device)[None]
    for mask in run.same:
        attention = torch.ones_like(ids)
        attention[0, list(run.out(mask))] = 0
        model = run.language_model.model
        logits = model(input_ids=ids, attention_mask=attention, position_ids=places, use_cache=False).logits
        run.record(mask, logits[0, -len(run.target) :])
