"""Ablations as a tree: what several have in common is run once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..attention.hooks import original_positions
from ..models.forward import logits_of, run_backbone, run_tokens
from ..models.kv_cache import fork_cache
from .run import Run

__all__ = ["Tree"]

LOGITS_AT_ONCE = 64
"""Rows of several ablations that go through the output layer together: 64 MiB in float32 for 262,144 tokens."""


class Tree:
    """Walks the tree of kept prefixes: a node is a run of tokens that several ablations have in common."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._model = run.language_model
        self._starts = [start for start, _ in run.sources] + [len(run.ids)]
        rows_at_once = LOGITS_AT_ONCE // len(run.target)
        self._together = min(rows_at_once, len(run.ablations)) if self._model.compatibility.has_backbone else 1
        """Ablations whose target goes through the output layer at once."""
        self._waiting: list[tuple[tuple[bool, ...], torch.Tensor]] = []
        """Ablations, and the hidden states of their target, still to go through the output layer."""

    def walk(self) -> None:
        """Run everything."""
        self._descend(list(self._run.ablations), 0, [], None, list(range(self._starts[0])))
        self._read_out()

    def _descend(
        self, group: list[tuple[bool, ...]], source: int, done: list[int], cache: Any, pending: list[int]
    ) -> None:
        """Run the ablations of `group`, which agree on everything before `source`.

        What is held at a time are the keys and values of the beginnings on the way down: of random masks, which halve
        at every source, about log2(masks) times the prompt's; at worst masks times.

        Args:
            group: which sources each keeps.
            source: the next source to decide on.
            done: token positions that `cache` holds.
            cache: keys and values of `done`; this call may use it up.
            pending: token positions to run before anything that `source` brings.
        """
        while source < len(self._run.sources):
            start, stop = self._run.sources[source]
            between = list(range(stop, self._starts[source + 1]))
            kept = [mask for mask in group if mask[source]]
            dropped = [mask for mask in group if not mask[source]]
            source += 1
            if kept and dropped:
                if pending:
                    cache = self._pass(run_tokens, done, cache, pending, 0)[1]
                    done = done + pending
                self._descend(dropped, source, done, fork_cache(cache), between)
                group, pending = kept, [*range(start, stop), *between]
            else:
                pending = [*pending, *(range(start, stop) if kept else ()), *between]
        self._finish(group[0], done, cache, pending)

    def _finish(self, mask: tuple[bool, ...], done: list[int], cache: Any, pending: list[int]) -> None:
        """Run the last tokens of an ablation, the target's among them."""
        rows = len(self._run.target)
        if self._together < 2:
            self._run.record(mask, self._pass(run_tokens, done, cache, pending, rows)[0])
            return
        self._waiting.append((mask, self._pass(run_backbone, done, cache, pending, rows)[0]))
        if len(self._waiting) == self._together:
            self._read_out()

    def _read_out(self) -> None:
        """Put what waits through the output layer."""
        if self._waiting:
            logits = logits_of(self._model, torch.cat([states for _, states in self._waiting]))
            for (mask, _), rows in zip(self._waiting, logits.split(len(self._run.target)), strict=True):
                self._run.record(mask, rows)
            self._waiting.clear()

    def _pass(
        self, piece: Callable[..., tuple[torch.Tensor, Any]], done: list[int], cache: Any, pending: list[int], rows: int
    ) -> tuple[torch.Tensor, Any]:
        """One pass over `pending`, by `run_tokens` or `run_backbone`: what it makes of the last rows, and the cache."""
        places = torch.tensor(self._run.places(done + pending), device=self._run.target.device)
        with original_positions(places):
            return piece(self._model, [self._run.ids[i] for i in pending], cache, places, rows)
