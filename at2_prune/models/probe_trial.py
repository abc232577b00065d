"""Runs the forward passes of a probe on random sequences.

For each claim, two ways of running a model are compared; see `at2_prune.models.probe`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from ..attention.hooks import enable_attention_reading, original_positions
from ..attention.reader import read_attention
from ..attention.rows import Reading, Rows, Span
from .kv_cache import cache_options, fork_cache, join_caches, output_cache

__all__ = ["ROWS", "Seen", "Subject", "Trial", "whole_numbers"]

ROWS = 16
"""The number of rows that are compared. They are the last rows of a sequence."""


def whole_numbers(value: Any) -> Iterator[int]:
    """Yield every whole number in the value of a config entry. The value may be a list or a dictionary."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from whole_numbers(each)


class Subject(NamedTuple):
    """A model to probe, and the ways in which it can be called."""

    model: PreTrainedModel
    keeps_logits: bool
    """True if the model takes `logits_to_keep`."""
    takes_positions: bool
    """True if the model takes `position_ids`."""
    backbone: Any
    """The model's layers without the output projection. It is None if the layers cannot be run alone."""


class Seen(NamedTuple):
    """The logits and the attention mass that one pass computed for the last rows of one sequence."""

    logits: torch.Tensor  # (rows, vocabulary)
    mass: torch.Tensor | None = None  # (layers, heads, rows, sources)


class Trial:
    """Two random sequences, and the ways of running a model that the claims compare.

    Args:
        subject: the model.
        length: the number of tokens of the longer sequence.
    """

    def __init__(self, subject: Subject, length: int) -> None:
        self._subject = subject
        self._device = subject.model.device
        text: Any = subject.model.config.get_text_config()
        limit = getattr(text, "max_position_embeddings", None)
        length = min(length, limit or length)
        if length < 3 * ROWS:
            raise ValueError(f"a context of {length} tokens is too short for a probe")
        marks = [value for name, value in text.to_dict().items() if name.endswith(("token_id", "token_index"))]
        special = set(whole_numbers(marks))
        plain = [token for token in range(min(text.vocab_size, 10_000)) if token not in special]
        drawn = torch.randint(len(plain), (2, length), generator=torch.Generator().manual_seed(0))
        self._pad = text.pad_token_id if isinstance(getattr(text, "pad_token_id", None), int) else 0
        ids = torch.tensor(plain)[drawn].to(self._device)
        self.long, self.short = ids[0], ids[1, : length - ROWS - 5]
        self._half = length - 2 * ROWS

    def alone(self, ids: torch.Tensor) -> Seen:
        """Run one sequence in one pass, without a cache and without position ids.

        `LanguageModel.read` reads a single short prompt in this way.
        """
        with self._reading(ids, self._quarters(ids)) as reader:
            logits = self._run(ids[None], use_cache=False).logits[0]
        return Seen(logits[-ROWS:], reader.mass("last"))

    def go_on(
        self, ids: torch.Tensor, cache: Any, start: int, places: torch.Tensor | None, sources: Sequence[Span] = ()
    ) -> Seen:
        """Run one pass over the tokens from `start` to the end of a sequence.

        Args:
            ids: the whole sequence.
            cache: keys and values of the tokens before `start`. The pass may change the cache.
            start: the index of the first token to run.
            places: the position ids of the whole sequence. With `None`, the model chooses the position ids.
            sources: the spans whose attention mass is read. Without spans, no attention is read.
        """
        options: dict[str, Any] = {"attention_mask": torch.ones_like(ids)[None]}
        if places is not None:
            options["position_ids"] = places[None, start:]
        options |= {**cache_options(cache, self._subject.model), "use_cache": True}
        if not sources:
            return Seen(self._run(ids[None, start:], **options).logits[0, -ROWS:])
        with self._reading(ids, sources, start) as reader:
            logits = self._run(ids[None, start:], **options).logits[0]
        return Seen(logits[-ROWS:], reader.mass("last"))

    def shares_prefixes(self) -> Iterator[tuple[Seen, Seen]]:
        """Compare passes that continue a shared prefix with one pass over the whole sequence.

        In the last comparison, both passes run the sequence without some of its tokens.
        """
        ids, half, last, sources = self.long, self._half, len(self.long) - ROWS, self._quarters(self.long)
        places = torch.arange(len(ids), device=self._device)
        whole = self.alone(ids)
        prefix = self.cache(ids[:half], places[:half])
        other = torch.cat([ids[:half], ids[half:].flip(0)])
        self.go_on(other, fork_cache(prefix), half, places)  # a pass from a copy must not change the prefix
        yield self.go_on(ids, fork_cache(prefix), half, None, sources), whole
        pieces = fork_cache(prefix)
        self.go_on(ids[:last], pieces, half, places[:last])
        yield self.go_on(ids, pieces, last, places, sources), whole
        kept, left, hole = self._with_a_hole()
        sources, cut = [(0, hole[0]), (hole[0], len(left) - ROWS)], len(left) - ROWS - 2
        enable_attention_reading(self._subject.model)
        with original_positions(kept):
            pieces = self.cache(left[:cut], kept[:cut])
            yield self.go_on(left, pieces, cut, kept, sources), self._masked(left, None, kept, sources)

    def pads_exactly(self) -> Iterator[tuple[Seen, Seen]]:
        """Compare a padded batch of both sequences with each sequence alone.

        The batch runs in one pass without a cache, and then as a decoding step with a cache.
        """
        alone = [self.alone(ids) for ids in (self.long, self.short)]
        ids, mask, places = self._padded()
        padding = (0, len(self.long) - len(self.short))
        readings = [
            Reading(self._quarters(some), [self._last(some)], n)
            for some, n in zip((self.long, self.short), padding, strict=True)
        ]
        with read_attention(self._subject.model, readings) as reader:
            logits = self._run(ids, attention_mask=mask, position_ids=places, use_cache=False).logits
        for item, one in enumerate(alone):
            yield Seen(logits[item, -ROWS:], reader.mass("last", item)), one
        options = {"attention_mask": mask[:, :-1], "position_ids": places[:, :-1], "use_cache": True}
        yield from self._step(output_cache(self._run(ids[:, :-1], **options)), alone)

    def joins_caches(self) -> Iterator[tuple[Seen, Seen]]:
        """Compare a decoding step with each sequence alone. The step continues the joined caches of both sequences."""
        both = (self.long, self.short)
        places = torch.arange(len(self.long), device=self._device)
        caches = [self.cache(ids[:-1], places[: len(ids) - 1]) for ids in both]
        yield from self._step(join_caches(caches), [self.alone(ids) for ids in both])

    def drops_exactly(self) -> Iterator[tuple[Seen, Seen]]:
        """Compare a pass without some tokens with a pass that masks these tokens.

        In both passes, the other tokens keep their position ids.
        """
        kept, left, (start, stop) = self._with_a_hole()
        mask, places = torch.zeros_like(self.long), torch.arange(len(self.long), device=self._device)
        mask[kept] = 1
        masked = self._masked(self.long, mask, places, [(0, start), (stop, len(self.long) - ROWS)])
        enable_attention_reading(self._subject.model)
        with original_positions(kept):
            yield self._masked(left, None, kept, [(0, start), (start, len(left) - ROWS)]), masked

    def cache(self, ids: torch.Tensor, places: torch.Tensor) -> Any:
        """Return the keys and values of a prefix, as `at2_prune.models.forward` computes them."""
        runner = self._subject.backbone or self._subject.model
        options = {"position_ids": places[None], "attention_mask": torch.ones_like(ids)[None], "use_cache": True}
        return output_cache(runner(input_ids=ids[None], **options))

    def _masked(
        self, ids: torch.Tensor, mask: torch.Tensor | None, places: torch.Tensor, sources: Sequence[Span]
    ) -> Seen:
        """Run one pass with position ids and an attention mask. With `mask=None`, no token is masked."""
        mask = torch.ones_like(ids) if mask is None else mask
        with self._reading(ids, sources) as reader:
            options = {"attention_mask": mask[None], "position_ids": places[None], "use_cache": False}
            logits = self._run(ids[None], **options).logits[0]
        return Seen(logits[-ROWS:], reader.mass("last"))

    def _step(self, cache: Any, alone: list[Seen]) -> Iterator[tuple[Seen, Seen]]:
        """Run the last token of both sequences in one batch. `cache` holds the earlier tokens of the padded batch."""
        ids, mask, places = self._padded()
        options = {"attention_mask": mask, "position_ids": places[:, -1:], "use_cache": True}
        logits = self._run(ids[:, -1:], **options, **cache_options(cache, self._subject.model)).logits
        for one, other in zip(logits, alone, strict=True):
            yield Seen(one[-1:]), other

    def _with_a_hole(self) -> tuple[torch.Tensor, torch.Tensor, Span]:
        """Remove a span of tokens near the end of the longer sequence.

        Returns:
            The position ids of the remaining tokens, the remaining tokens, and the removed span.
        """
        start, stop = len(self.long) - ROWS - 12, len(self.long) - ROWS - 4
        places = torch.arange(len(self.long), device=self._device)
        kept = torch.cat([places[:start], places[stop:]])
        return kept, self.long[kept], (start, stop)

    def _padded(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return token ids, mask and position ids of both sequences, `(2, tokens)` each.

        The shorter sequence is padded on the left.
        """
        padding = len(self.long) - len(self.short)
        filled = torch.cat([self.short.new_full((padding,), self._pad), self.short])
        ids = torch.stack([self.long, filled])
        mask = torch.ones_like(ids)
        mask[1, :padding] = 0
        return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)

    def _quarters(self, ids: torch.Tensor) -> list[Span]:
        quarter = (len(ids) - ROWS) // 4
        return [(i * quarter, (i + 1) * quarter) for i in range(4)]

    def _last(self, ids: torch.Tensor) -> Rows:
        return Rows("last", len(ids) - ROWS, len(ids), "none")

    def _reading(self, ids: torch.Tensor, sources: Sequence[Span], past: int = 0) -> Any:
        return read_attention(self._subject.model, [Reading(sources, [self._last(ids)])], past=past)

    def _run(self, ids: torch.Tensor, **options: Any) -> Any:
        if self._subject.keeps_logits:
            options["logits_to_keep"] = min(ROWS, ids.shape[1])
        return self._subject.model(input_ids=ids, **options)
