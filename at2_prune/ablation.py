"""Ablations: how the target's log-odds change when sources are left out.

For a target of tokens with joint probability :math:`p`, an ablation's outcome is :math:`\\log p - \\log(1 - p)`
(ContextCite, arXiv 2409.00729; AT2, arXiv 2504.13752). Sources are left out by attention mask with positions kept, as
in the paper, or by closing the gap, as pruning does. Either way the tokens left out are never computed: dropping a
token while the others keep their position ids is the same computation as masking it. Ablations that start with the
same kept sources share that prefix's keys and values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from .errors import InputError
from .forward import (
    bound_by_passes,
    carries_state,
    fork,
    has_body,
    logits_of,
    rotates_by_length,
    run_body,
    run_piece,
)
from .interface import enable_attention_reading, original_positions
from .model import LanguageModel
from .prompt import EncodedPrompt

__all__ = ["Positions", "ablation_outcomes", "log_odds", "random_masks", "seeded_generator"]

Positions = Literal["kept", "closed"]
LOGITS_AT_ONCE = 64
"""Rows of several ablations that go through the output layer together: 64 MiB in float32 for 262,144 tokens."""


def random_masks(sources: int, count: int, generator: torch.Generator, keep: float = 0.5) -> torch.Tensor:
    """Random ablations: each source kept with probability `keep`, `(count, sources)` bool (AT2, section 3)."""
    return torch.rand(count, sources, generator=generator) < keep


def seeded_generator(seed: int, question: str) -> torch.Generator:
    """A generator that is the same for a question, by its text or id, whatever ran before it."""
    digest = hashlib.sha256(f"{seed} {question}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))


def log_odds(log_probability: torch.Tensor) -> torch.Tensor:
    """log p - log(1 - p), elementwise, in float64; finite for p up to 1 - 1e-12.

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
    """Log-odds of the target under each ablation.

    Args:
        language_model: the model.
        prompt: with its sources.
        target: token ids that follow the prompt.
        masks: `(ablations, sources)` bool, True where a source is kept.
        parts: spans of the target that are outcomes of their own (its sentences, say); default: the whole target.
        positions: "kept" masks the sources out where they stand; "closed" removes them and moves the rest up.

    Returns:
        `(ablations, parts)` float64.

    Raises:
        InputError: an empty target, no masks or of another width, a prompt that ends in a source.
    """
    if not target:
        raise InputError("the target of an ablation is empty")
    if masks.dim() != 2 or not len(masks) or masks.shape[1] != len(prompt.sources):
        raise InputError(f"masks of shape {tuple(masks.shape)} for {len(prompt.sources)} sources")
    if prompt.sources and prompt.sources[-1][1] == len(prompt):
        raise InputError("the prompt ends in a source, so what predicts the target would be left out with it")
    enable_attention_reading(language_model.model)
    run = _Run(language_model, prompt, target, masks.tolist(), positions)
    stateful = carries_state(language_model.model)
    if stateful or rotates_by_length(language_model.model):
        for index in range(len(masks)):
            run.alone(index, masked=positions == "kept" and stateful)
    else:
        run.descend(list(range(len(masks))), 0, [], None, list(range(run.starts[0])))
    run.read_out()
    log_p = torch.stack(run.token_log_probabilities)  # (ablations, target tokens)
    spans = parts or [(0, len(target))]
    return log_odds(torch.stack([log_p[:, start:stop].sum(1) for start, stop in spans], dim=1))


class _Run:
    """Walks the tree of kept prefixes: a node is a run of tokens that several ablations have in common."""

    def __init__(
        self,
        language_model: LanguageModel,
        prompt: EncodedPrompt,
        target: Sequence[int],
        masks: list[list[bool]],
        positions: Positions,
    ) -> None:
        self.language_model = language_model
        self.ids = [*prompt.ids, *target[:-1]]
        self.target = torch.tensor(list(target), device=language_model.device)
        self.sources = prompt.sources
        self.starts = [start for start, _ in prompt.sources] + [len(self.ids)]
        self.masks = masks
        self.closed = positions == "closed"
        self.token_log_probabilities: list[torch.Tensor] = [torch.empty(0)] * len(masks)
        rows_at_once = LOGITS_AT_ONCE // len(target)
        pays = has_body(language_model) and not bound_by_passes(language_model)
        self.together = min(rows_at_once, len(set(map(tuple, masks)))) if pays else 1
        """Ablations whose target goes through the output layer at once."""
        self.waiting: list[tuple[list[int], torch.Tensor]] = []
        """Ablations that agree, and the hidden states of their target, still to go through the output layer."""

    def descend(self, group: list[int], source: int, done: list[int], cache: Any, pending: list[int]) -> None:
        """Run the ablations of `group`, which agree on everything before `source`.

        What is held at a time are the keys and values of the beginnings on the way down: of random masks, which halve
        at every source, about log2(masks) times the prompt's; at worst masks times.

        Args:
            group: indices of ablations.
            source: the next source to decide on.
            done: token positions that `cache` holds.
            cache: keys and values of `done`; this call may use it up.
            pending: token positions to run before anything that `source` brings.
        """
        while source < len(self.sources):
            start, stop = self.sources[source]
            between = list(range(stop, self.starts[source + 1]))
            kept = [index for index in group if self.masks[index][source]]
            dropped = [index for index in group if not self.masks[index][source]]
            source += 1
            if kept and dropped:
                if pending:
                    cache = self.run(run_piece, done, cache, pending, 0)[1]
                    done = done + pending
                self.descend(dropped, source, done, fork(cache), between)
                group, pending = kept, [*range(start, stop), *between]
            else:
                pending = [*pending, *(range(start, stop) if kept else ()), *between]
        self.finish(group, done, cache, pending)

    def alone(self, index: int, masked: bool) -> None:
        """One ablation by itself, for models on which prefixes cannot be shared.

        Args:
            index: of the ablation.
            masked: run what is left out too, behind an attention mask: a recurrent layer passes over it all the same.
        """
        out = {
            position
            for kept, span in zip(self.masks[index], self.sources, strict=True)
            if not kept
            for position in range(*span)
        }
        left = [position for position in range(len(self.ids)) if position not in out]
        if not masked:
            self.finish([index], [], None, left)
            return
        mask = torch.ones(1, len(self.ids), dtype=torch.long, device=self.target.device)
        mask[0, list(out)] = 0
        ids = torch.tensor([self.ids], device=self.target.device)
        places = torch.arange(len(self.ids), device=self.target.device)[None]
        model = self.language_model.model
        logits = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).logits
        self.record([index], logits[0, -len(self.target) :])

    def record(self, group: list[int], logits: torch.Tensor) -> None:
        log_p = logits.float().log_softmax(-1).gather(1, self.target[:, None])[:, 0].double().cpu()
        for index in group:
            self.token_log_probabilities[index] = log_p

    def finish(self, group: list[int], done: list[int], cache: Any, pending: list[int]) -> None:
        """Run the last tokens of ablations that agree, the target's among them."""
        rows = len(self.target)
        if self.together < 2:
            self.record(group, self.run(run_piece, done, cache, pending, rows)[0])
            return
        self.waiting.append((group, self.run(run_body, done, cache, pending, rows)[0]))
        if len(self.waiting) == self.together:
            self.read_out()

    def read_out(self) -> None:
        """Put what waits through the output layer."""
        if self.waiting:
            logits = logits_of(self.language_model, torch.cat([states for _, states in self.waiting]))
            for (group, _), rows in zip(self.waiting, logits.split(len(self.target)), strict=True):
                self.record(group, rows)
            self.waiting.clear()

    def run(
        self, piece: Callable[..., tuple[torch.Tensor, Any]], done: list[int], cache: Any, pending: list[int], rows: int
    ) -> tuple[torch.Tensor, Any]:
        """One pass over `pending`, by `run_piece` or `run_body`: what it makes of the last rows, and the cache."""
        places = torch.tensor(done + pending, device=self.target.device)
        if self.closed:
            places = torch.arange(len(places), device=self.target.device)
        with original_positions(places):
            return piece(self.language_model, [self.ids[i] for i in pending], cache, places, rows)
