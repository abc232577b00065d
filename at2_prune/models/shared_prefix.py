"""Answers to prompts that begin alike, such as one question with different passages kept.

What prompts share is computed once: a prompt is cut where its sources begin and end, equal beginnings make a tree, and
every node's keys and values are forked by the prompts that pass through it. A few answers are written one after the
other: they are alike too, so once the first token is known, an earlier answer that begins with it is checked in one
forward pass (speculative decoding, Leviathan et al., arXiv 2211.17192, with earlier answers for a draft model). Many
are written together, a token of each at a time. All of this is exact: the tokens are those of greedy decoding, up to
rounding, which decides near ties in 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from .forward import logits_of, run_backbone, run_step, run_tokens
from .kv_cache import Prefix, cache_bytes, fork_cache, join_caches
from .language_model import Generation, LanguageModel, greedy_log_probabilities
from .prompts import EncodedPrompt

__all__ = ["write_answers"]

WORTH_BATCHING = 8
"""Prompts; the answers to fewer are guessed in less time than they take together."""
KEYS_AT_ONCE = 2**28
"""Bytes of keys and values that the answers written together may hold on a CPU; eight times that on a GPU."""


@torch.inference_mode()
def write_answers(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    guess: Sequence[int] = (),
    max_new_tokens: int = 48,
    prefix: Prefix | None = None,
) -> list[Generation]:
    """Continue each prompt greedily, as `LanguageModel.generate` does one by one.

    Args:
        language_model: the model.
        prompts: at least one.
        guess: token ids of a likely answer, the draft's say; a wrong one costs a little time.
        max_new_tokens: an answer is cut there.
        prefix: how all of them begin, if that has been run.

    Returns:
        One generation a prompt.

    Raises:
        ContextTooLongError: a prompt does not fit into the context.

    Example:
        >>> answers = write_answers(language_model, [encode([0, 1]), encode([0, 2])], draft.ids)  # doctest: +SKIP
    """
    language_model.check_length(max(len(prompt) for prompt in prompts), max_new_tokens)
    if not language_model.compatibility.shares_prefixes:
        return [language_model.generate([prompt], max_new_tokens)[0][0] for prompt in prompts]
    pieces = [_pieces(prompt) for prompt in prompts]
    start = prefix.fork_for(prompts[0]) if prefix and all(some[0] == tuple(prefix.ids) for some in pieces) else None
    tree: dict[tuple[int, ...], Any] = {}
    for index, some in enumerate(pieces):
        node = tree
        for piece in some[1:] if start else some:
            node = node.setdefault(piece, {})
        node.setdefault((), []).append(index)
    allowed = language_model.compatibility
    many = len(set(pieces)) >= WORTH_BATCHING and allowed.has_backbone and allowed.joins_caches
    writer = _Writer(language_model, list(guess), max_new_tokens, many)
    writer.descend(tree, start.cache if start else None, len(start.ids) if start else 0)
    writer.write_waiting(last=True)
    return [language_model.generation(*writer.written[index]) for index in range(len(prompts))]


def _pieces(prompt: EncodedPrompt) -> tuple[tuple[int, ...], ...]:
    """The prompt's tokens: what comes before the sources, each source up to the next, what comes after the last."""
    starts = [start for start, _ in prompt.sources]
    cuts = [0, *starts, *([prompt.sources[-1][1]] if starts else []), len(prompt)]
    return tuple(tuple(prompt.ids[start:stop]) for start, stop in pairwise(cuts) if stop > start)


@dataclass
class _Answer:
    """An answer that is being written."""

    indices: list[int]
    """Of the prompts it answers."""
    length: int
    """Tokens of the prompt."""
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    """One a token."""


class _Writer:
    """Walks the tree of the prompts' pieces.

    Args:
        language_model: the model.
        guess: of the first answer.
        max_new_tokens: an answer is cut there.
        together: write the answers a token of each at a time, not one by one.
    """

    def __init__(self, language_model: LanguageModel, guess: list[int], max_new_tokens: int, together: bool) -> None:
        self.language_model = language_model
        self.known = [guess]
        self.max_new_tokens = max_new_tokens
        self.together = together
        self.written: dict[int, tuple[list[int], list[float]]] = {}
        """By the prompt's index: what was written after it, and each token's log-probability."""
        self._waiting: list[tuple[_Answer, torch.Tensor, Any]] = []
        """Answers to write together, the last hidden state of the prompt of each, and its cache."""
        self._begun: tuple[list[_Answer], list[Any]] = [], []
        """Answers that are being written together, and their cache."""
        self._may_hold = KEYS_AT_ONCE * (8 if language_model.batching_pays else 1)
        self._held = 0

    def descend(self, node: dict[tuple[int, ...], Any], cache: Any, length: int) -> None:
        """Answer all prompts below a node.

        Args:
            node: the pieces that come next, each with the pieces after it; under the empty one, prompts that end here.
            cache: keys and values of what came before; this call may use it up.
            length: its tokens.
        """
        for count, (piece, after) in enumerate(node.items(), start=1):
            while len(after) == 1 and () not in after:  # nothing branches off here
                (more,) = after
                piece, after = piece + more, after[more]
            mine = cache if count == len(node) else fork_cache(cache)
            deeper = {piece: children for piece, children in after.items() if piece}
            if () in after:
                write = self.put_off if self.together else self.finish
                write(_Answer(after[()], length + len(piece)), list(piece), fork_cache(mine) if deeper else mine)
            if deeper:
                mine = self.run(piece, mine, length, 0)[1]
                self.descend(deeper, mine, length + len(piece))

    def finish(self, answer: _Answer, piece: list[int], cache: Any) -> None:
        """Write an answer, guessing how it goes on.

        Args:
            answer: to write.
            piece: the prompt's tokens that are not in the cache yet.
            cache: keys and values of what comes before them.
        """
        length = answer.length - len(piece)
        while not self.ended(answer):
            guess = self.guess(answer.ids)
            before = fork_cache(cache) if guess else None
            logits, cache = self.run([*piece, *guess], cache, length, len(guess) + 1)
            chosen = logits.argmax(-1).tolist()
            log_p = greedy_log_probabilities(logits).tolist()
            agreed = next((i for i, token in enumerate(guess) if chosen[i] != token), len(guess))
            for token, one in zip(chosen[: agreed + 1], log_p, strict=False):
                if not self.ended(answer):
                    answer.ids.append(token)
                    answer.log_probabilities.append(one)
            if agreed == len(guess):
                length += len(piece) + agreed
                piece = chosen[-1:]
            else:  # the cache holds tokens that were not written
                cache = before
                piece = [*piece, *chosen[: agreed + 1]]
        self.known.append(answer.ids)
        self.keep(answer)

    def put_off(self, answer: _Answer, piece: list[int], cache: Any) -> None:
        """Run what is left of a prompt; its answer is written with others. Arguments as of `finish`."""
        positions = torch.arange(answer.length, device=self.language_model.device)
        state, cache = run_backbone(self.language_model, piece, cache, positions, 1)
        self._waiting.append((answer, state, cache))
        self._held += cache_bytes(cache)
        if self._held >= self._may_hold:
            self.write_waiting()

    def write_waiting(self, last: bool = False) -> None:
        """Write the answers that were put off, a token of each at a time.

        Args:
            last: until all have ended; else until half of them have, and the others go on with later ones.
        """
        answers, caches = self._begun
        if self._waiting:
            new, states, their_caches = zip(*self._waiting, strict=True)
            self._waiting = []
            self.add(new, logits_of(self.language_model, torch.cat(states)))
            answers, caches = [*answers, *new], [*caches, *their_caches]
        self._begun, self._held = ([], []), 0
        if not answers:
            return
        enough = 0 if last else len(answers) // 2
        cache = join_caches(caches)
        del caches
        while True:
            going_on = [index for index, answer in enumerate(answers) if not self.ended(answer)]
            if len(going_on) <= max(enough, len(answers) * 3 // 4):  # to leave the others out takes as long as a step
                for answer in answers:
                    if self.ended(answer):
                        self.keep(answer)
                answers = [answers[index] for index in going_on]
                if not answers:
                    return
                cache.batch_select_indices(torch.tensor(going_on, device=self.language_model.device))
            if len(answers) <= enough:
                self._begun, self._held = (answers, [cache]), cache_bytes(cache)
                return
            lengths = [answer.length + len(answer.ids) - 1 for answer in answers]
            tokens = [answer.ids[-1] for answer in answers]
            logits, cache = run_step(self.language_model, tokens, cache, lengths)
            self.add(answers, logits)

    def add(self, answers: Sequence[_Answer], logits: torch.Tensor) -> None:
        """Add to each answer the likeliest token, unless it has ended."""
        log_p = greedy_log_probabilities(logits).tolist()
        for answer, token, one in zip(answers, logits.argmax(-1).tolist(), log_p, strict=True):
            if not self.ended(answer):
                answer.ids.append(token)
                answer.log_probabilities.append(one)

    def keep(self, answer: _Answer) -> None:
        self.written |= dict.fromkeys(answer.indices, (answer.ids, answer.log_probabilities))

    def guess(self, ids: list[int]) -> list[int]:
        """How the latest answer that began like this one went on, but for its last token."""
        if not ids:
            return []
        return next((k[len(ids) : -1] for k in reversed(self.known) if k[: len(ids)] == ids), [])

    def ended(self, answer: _Answer) -> bool:
        ids = answer.ids
        return bool(ids) and (len(ids) >= self.max_new_tokens or self.language_model.ends(ids))

    def run(self, piece: Sequence[int], cache: Any, length: int, rows: int) -> tuple[torch.Tensor, Any]:
        positions = torch.arange(length + len(piece), device=self.language_model.device)
        return run_tokens(self.language_model, list(piece), cache, positions, rows)
