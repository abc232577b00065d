"""Runs ablations as a tree of prefixes. A prefix that several ablations share runs only once."""

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
"""The maximum number of rows in one output projection for several ablations. There is one row for each target token of
each ablation. With a vocabulary of 262,144 tokens, the logits of these rows take 64 MiB in float32."""


class Tree:
    """A tree of prefixes. A node holds tokens that the ablations below the node have in common.

    Args:
        run: the ablations to run. It also records their results.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._model = run.language_model
        self._starts = [start for start, _ in run.sources] + [len(run.ids)]
        fitting = LOGITS_AT_ONCE // len(run.target)
        self._together = min(fitting, len(run.ablations)) if self._model.compatibility.has_backbone else 1
        """The number of ablations that go through the output projection together. If it is less than 2, each ablation
        goes through the output projection alone."""
        self._waiting: list[tuple[tuple[bool, ...], torch.Tensor]] = []
        """The masks that wait for the output projection, each with the hidden states that predict the target."""

    def walk(self) -> None:
        """Run all ablations."""
        self._descend(list(self._run.ablations), 0, [], None, list(range(self._starts[0])))
        self._read_out()

    def _descend(
        self, group: list[tuple[bool, ...]], source: int, done: list[int], cache: Any, pending: list[int]
    ) -> None:
        """Run the ablations of `group`, whose masks agree on every source before `source`.

        The caches of all prefixes on the path from the root are in memory at the same time. Each source splits random
        masks into two halves, so about log2(masks) caches are in memory. In the worst case, there is one cache per
        mask.

        Args:
            group: the masks of the ablations.
            source: the index of the first source on which the masks may differ.
            done: the positions of the tokens in `cache`.
            cache: the keys and values of the tokens `done`. This call may change the cache.
            pending: the positions of the tokens that come before `source` and are not run yet.
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
        """Run the last tokens of an ablation, including the tokens of the target."""
        rows = len(self._run.target)
        if self._together < 2:
            self._run.record(mask, self._pass(run_tokens, done, cache, pending, rows)[0])
            return
        self._waiting.append((mask, self._pass(run_backbone, done, cache, pending, rows)[0]))
        if len(self._waiting) == self._together:
            self._read_out()

    def _read_out(self) -> None:
        """Run the output projection for the waiting ablations, and record their results."""
        if self._waiting:
            logits = logits_of(self._model, torch.cat([states for _, states in self._waiting]))
            for (mask, _), rows in zip(self._waiting, logits.split(len(self._run.target)), strict=True):
                self._run.record(mask, rows)
            self._waiting.clear()

    def _pass(
        self, piece: Callable[..., tuple[torch.Tensor, Any]], done: list[int], cache: Any, pending: list[int], rows: int
    ) -> tuple[torch.Tensor, Any]:
        """Run the tokens `pending` with `run_tokens` or `run_backbone`.

        Returns:
            The logits or the hidden states of the last `rows` tokens, and the cache after the pass.
        """
        places = torch.tensor(self._run.places(done + pending), device=self._run.target.device)
        with original_positions(places):
            return piece(self._model, [self._run.ids[i] for i in pending], cache, places, rows)
