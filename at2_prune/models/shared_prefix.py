"""Writes answers to prompts that share a prefix, such as prompts with one question and different kept passages.

A shared prefix is computed once. Each prompt is cut into pieces: at the start of each source and after the last source.
The pieces form a tree. Prompts with the same first pieces share the first nodes of the tree. If a node has several next
nodes, its keys and values are forked for them.

The answers are written together if there are at least `WORTH_BATCHING` different prompts, and the model has a backbone
and joins caches (see `Compatibility`). Each step then adds one token to every answer. Otherwise, each answer is
finished before the next answer starts.

Answers that are written one after the other are often equal. So when the first tokens of an answer are known, its other
tokens are guessed. The guess comes from the latest known answer with the same first tokens. One forward pass checks all
tokens of the guess. This is speculative decoding (Leviathan et al., arXiv 2211.17192), with earlier answers instead of
a draft model.

If a model cannot share prefixes, each prompt is answered alone.

The tokens are those of greedy decoding. In 16 bits, rounding may decide between tokens of nearly equal probability.
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
"""The minimum number of different prompts whose answers are written together. With fewer prompts, it takes less time to
finish each answer before the next answer starts."""
KEYS_AT_ONCE = 2**28
"""On a CPU, writing starts when the caches of all unfinished answers together reach this number of bytes. On a GPU, the
number is eight times as large."""


@torch.inference_mode()
def write_answers(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    guess: Sequence[int] = (),
    max_new_tokens: int = 48,
    prefix: Prefix | None = None,
) -> list[Generation]:
    """Continue each prompt by greedy decoding. The answers are those of `LanguageModel.generate` for each prompt alone.

    Args:
        language_model: the model.
        prompts: at least one prompt.
        guess: the token ids of a likely answer, such as the draft. A wrong guess only costs a little time.
        max_new_tokens: the maximum number of tokens in an answer.
        prefix: a prefix of all prompts, if the prefix was run before.

    Returns:
        One generation for each prompt.

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
    """Cut the prompt into pieces: the tokens before the sources, each source, and the tokens after the sources.

    The piece of a source ends where the next source starts.
    """
    starts = [start for start, _ in prompt.sources]
    cuts = [0, *starts, *([prompt.sources[-1][1]] if starts else []), len(prompt)]
    return tuple(tuple(prompt.ids[start:stop]) for start, stop in pairwise(cuts) if stop > start)


@dataclass
class _Answer:
    """An answer that is being written."""

    indices: list[int]
    """The indices of the prompts that get this answer. These prompts have the same tokens."""
    length: int
    """The number of tokens of the prompt."""
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    """One log-probability for each token."""


class _Writer:
    """Walks over the tree of pieces and writes the answers.

    Args:
        language_model: the model.
        guess: the token ids of a likely answer.
        max_new_tokens: the maximum number of tokens in an answer.
        together: whether the answers are written together, so that each step adds one token to every answer.
    """

    def __init__(self, language_model: LanguageModel, guess: list[int], max_new_tokens: int, together: bool) -> None:
        self.language_model = language_model
        self.known = [guess]
        self.max_new_tokens = max_new_tokens
        self.together = together
        self.written: dict[int, tuple[list[int], list[float]]] = {}
        """For the index of each prompt, the tokens of its answer and the log-probabilities of these tokens."""
        self._waiting: list[tuple[_Answer, torch.Tensor, Any]] = []
        """Answers that are not started yet, each with the last hidden state and the cache of its prompt."""
        self._begun: tuple[list[_Answer], list[Any]] = [], []
        """Answers that are started and not finished, and a list with their joined cache."""
        self._may_hold = KEYS_AT_ONCE * (8 if language_model.batching_pays else 1)
        self._held = 0

    def descend(self, node: dict[tuple[int, ...], Any], cache: Any, length: int) -> None:
        """Answer all prompts below a node.

        Args:
            node: a dictionary that maps each next piece to the node after this piece. The entry of the key `()` is the
                list of indices of the prompts that end at this node.
            cache: keys and values of the tokens before the node. This call may change the cache.
            length: the number of tokens before the node.
        """
        for count, (piece, after) in enumerate(node.items(), start=1):
            while len(after) == 1 and () not in after:  # the tree does not branch here
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
        """Write one answer to its end. Earlier answers serve as guesses for the next tokens.

        Args:
            answer: the answer to write.
            piece: the tokens of the prompt that are not in the cache yet.
            cache: keys and values of the prompt's tokens before `piece`.
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
            else:  # the new cache holds wrong guesses, so the next pass starts from the earlier cache
                cache = before
                piece = [*piece, *chosen[: agreed + 1]]
        self.known.append(answer.ids)
        self.keep(answer)

    def put_off(self, answer: _Answer, piece: list[int], cache: Any) -> None:
        """Run the rest of a prompt, and put its answer off. The answer is written later, together with other answers.

        The arguments are those of `finish`.
        """
        positions = torch.arange(answer.length, device=self.language_model.device)
        state, cache = run_backbone(self.language_model, piece, cache, positions, 1)
        self._waiting.append((answer, state, cache))
        self._held += cache_bytes(cache)
        if self._held >= self._may_hold:
            self.write_waiting()

    def write_waiting(self, last: bool = False) -> None:
        """Write the answers that were put off. Each step adds one token to every answer.

        Args:
            last: whether to write until all answers have ended. If False, this call stops when half of the answers have
                ended. A later call continues the remaining answers together with new answers.
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
            # Removing ended answers from the cache takes as long as a decoding step. So they are removed only when a
            # quarter of the answers have ended, or when this call can stop.
            if len(going_on) <= max(enough, len(answers) * 3 // 4):
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
        """Add the most probable next token to each answer that has not ended."""
        log_p = greedy_log_probabilities(logits).tolist()
        for answer, token, one in zip(answers, logits.argmax(-1).tolist(), log_p, strict=True):
            if not self.ended(answer):
                answer.ids.append(token)
                answer.log_probabilities.append(one)

    def keep(self, answer: _Answer) -> None:
        self.written |= dict.fromkeys(answer.indices, (answer.ids, answer.log_probabilities))

    def guess(self, ids: list[int]) -> list[int]:
        """Return a guess for the tokens after `ids`.

        The guess comes from the latest known answer that begins with `ids`. It is the rest of that answer without the
        last token. If there is no such answer, the guess is empty.
        """
        if not ids:
            return []
        return next((k[len(ids) : -1] for k in reversed(self.known) if k[: len(ids)] == ids), [])

    def ended(self, answer: _Answer) -> bool:
        ids = answer.ids
        return bool(ids) and (len(ids) >= self.max_new_tokens or self.language_model.ends(ids))

    def run(self, piece: Sequence[int], cache: Any, length: int, rows: int) -> tuple[torch.Tensor, Any]:
        positions = torch.arange(length + len(piece), device=self.language_model.device)
        return run_tokens(self.language_model, list(piece), cache, positions, rows)
