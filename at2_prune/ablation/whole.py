"""Runs each ablation as a whole, without shared prefixes. This is done if shared prefixes would be wrong or slower."""

from __future__ import annotations

from typing import Any

import torch

from ..attention.hooks import original_positions
from ..models.forward import run_tokens
from .run import Run

__all__ = ["run_alone", "run_in_batches", "run_masked"]

TOKENS_AT_ONCE = 16384
"""The maximum number of tokens in a batch of several ablations, including padding. A batch of this size keeps a large
GPU busy. The activations of a large model then take some gigabytes."""
ROWS_AT_ONCE = 256
"""The maximum number of rows in one output projection for several ablations. A row is a token that gets logits. With a
vocabulary of 262,144 tokens, the logits of these rows take 256 MiB in float32."""


def run_in_batches(run: Run) -> None:
    """Run several ablations in each pass. Shorter ablations are padded on the left.

    Ablations of similar length run in the same pass, so that little padding is needed.
    """
    kept = {mask: run.kept(mask) for mask in run.ablations}
    waiting = sorted(kept, key=lambda mask: len(kept[mask]))
    rows = len(run.target)
    while waiting:
        width = len(kept[waiting[-1]])
        logits = rows if run.language_model.compatibility.keeps_logits else width
        size = max(1, min(TOKENS_AT_ONCE // width, ROWS_AT_ONCE // logits))
        batch, waiting = waiting[-size:], waiting[:-size]
        _run_batch(run, batch, [kept[mask] for mask in batch])


def _run_batch(run: Run, batch: list[tuple[bool, ...]], kept: list[list[int]]) -> None:
    width = max(map(len, kept))
    padding = [width - len(tokens) for tokens in kept]
    rows, device = len(run.target), run.target.device
    ids = [[0] * n + [run.ids[i] for i in tokens] for n, tokens in zip(padding, kept, strict=True)]
    # (ablations, width); the positions of padding tokens are negative
    at = [[*range(-n, 0), *run.places(tokens)] for n, tokens in zip(padding, kept, strict=True)]
    places = torch.tensor(at, device=device)
    options: dict[str, Any] = {"logits_to_keep": rows} if run.language_model.compatibility.keeps_logits else {}
    with original_positions(places - places[:, :1].clamp(max=0)):
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
    """Run each ablation in a pass of its own. The tokens that the ablation leaves out are not run."""
    for mask in run.ablations:
        kept = run.kept(mask)
        places = torch.tensor(run.places(kept), device=run.target.device)
        with original_positions(places):
            ids = [run.ids[i] for i in kept]
            run.record(mask, run_tokens(run.language_model, ids, None, places, len(run.target))[0])


def run_masked(run: Run) -> None:
    """Run each ablation in a pass of its own. An attention mask hides the tokens that the ablation leaves out.

    A recurrent layer still runs over these tokens. This is also so in the code that AT2's authors published.
    """
    device = run.target.device
    ids, places = torch.tensor([run.ids], device=device), torch.arange(len(run.ids), device=device)[None]
    for mask in run.ablations:
        attention = torch.ones_like(ids)
        attention[0, list(run.dropped(mask))] = 0
        model = run.language_model.model
        logits = model(input_ids=ids, attention_mask=attention, position_ids=places, use_cache=False).logits
        run.record(mask, logits[0, -len(run.target) :])
