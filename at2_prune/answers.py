"""Answers to prompts that begin alike, such as one question with different passages kept.

What prompts share is computed once: a prompt is cut where its sources begin and end, equal beginnings make a tree, and
every node's keys and values are forked by the prompts that pass through it. The answers are alike too: once the first
token is known, an earlier answer that begins with it is checked in one forward pass (speculative decoding, Leviathan
et al., arXiv 2211.17192, with earlier answers for a draft model). Both are exact: the tokens are those of greedy
decoding, up to rounding, which decides near ties in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from .forward import Beginning, fork, run_piece, shares_prefixes
from .model import Generation, LanguageModel, greedy_log_probabilities
from .prompt import EncodedPrompt

__all__ = ["write_answers"]


@torch.inference_mode()
def write_answers(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    guess: Sequence[int] = (),
    max_new_tokens: int = 48,
    begun: Beginning | None = None,
) -> list[Generation]:
    """Continue each prompt greedily, as `LanguageModel.generate` does one by one.

    Args:
        language_model: the model.
        prompts: at least one.
        guess: token ids of a likely answer, the draft's say; a wrong one costs a little time.
        max_new_tokens: an answer is cut there.
        begun: how all of them begin, if that has been run.

    Returns:
        One generation a prompt.

    Raises:
        ContextTooLongError: a prompt does not fit into the context.

    Example:
        >>> answers = write_answers(language_model, [encode([0, 1]), encode([0, 2])], draft.ids)  # doctest: +SKIP
    """
    language_model.check_length(max(len(prompt) for prompt in prompts), max_new_tokens)
    if not shares_prefixes(language_model.model):
        return [language_model.generate([prompt], max_new_tokens)[0][0] for prompt in prompts]
    pieces = [_pieces(prompt) for prompt in prompts]
    start = begun.of(prompts[0]) if begun and all(some[0] == tuple(begun.ids) for some in pieces) else None
    tree: dict[tuple[int, ...], Any] = {}
    for index, some in enumerate(pieces):
        node = tree
        for piece in some[1:] if start else some:
            node = node.setdefault(piece, {})
        node.setdefault((), []).append(index)
    writer = _Writer(language_model, list(guess), max_new_tokens)
    written = dict(writer.descend(tree, start.cache if start else None, len(start.ids) if start else 0))
    return [language_model.generation(*written[index]) for index in range(len(prompts))]


def _pieces(prompt: EncodedPrompt) -> list[tuple[int, ...]]:
    """The prompt's tokens: what comes before the sources, each source up to the next, what comes after the last."""
    starts = [start for start, _ in prompt.sources]
    cuts = [0, *starts, *([prompt.sources[-1][1]] if starts else []), len(prompt)]
    return [tuple(prompt.ids[start:stop]) for start, stop in pairwise(cuts) if stop > start]


class _Writer:
    def __init__(self, language_model: LanguageModel, guess: list[int], max_new_tokens: int) -> None:
        self.language_model = language_model
        self.known = [guess]
        self.max_new_tokens = max_new_tokens

    def descend(
        self, node: dict[tuple[int, ...], Any], cache: Any, length: int
    ) -> Iterator[tuple[int, tuple[list[int], list[float]]]]:
        """Prompts' indices and what the model writes after them, with each token's log-probability.

        Args:
            node: the pieces that come next, each with the pieces after it; under the empty one, prompts that end here.
            cache: keys and values of what came before; this call may use it up.
            length: its tokens.
        """
        for count, (piece, after) in enumerate(node.items(), start=1):
            while len(after) == 1 and () not in after:  # nothing branches off here
                (more,) = after
                piece, after = piece + more, after[more]
            mine = cache if count == len(node) else fork(cache)
            deeper = {piece: children for piece, children in after.items() if piece}
            if () in after:
                written = self.finish(list(piece), fork(mine) if deeper else mine, length)
                yield from ((index, written) for index in after[()])
            if deeper:
                mine = self.run(piece, mine, length, 0)[1]
                yield from self.descend(deeper, mine, length + len(piece))

    def finish(self, piece: list[int], cache: Any, length: int) -> tuple[list[int], list[float]]:
        """What the model writes after the last piece, and the log-probability of each token.

        Args:
            piece: tokens that are not in the cache yet.
            cache: keys and values of what comes before them.
            length: its tokens.
        """
        ids: list[int] = []
        sure: list[float] = []
        while not self.ended(ids):
            guess = self.guess(ids)
            before = fork(cache) if guess else None
            logits, cache = self.run([*piece, *guess], cache, length, len(guess) + 1)
            chosen = logits.argmax(-1).tolist()
            log_p = greedy_log_probabilities(logits).tolist()
            agreed = next((i for i, token in enumerate(guess) if chosen[i] != token), len(guess))
            for token, one in zip(chosen[: agreed + 1], log_p, strict=False):
                if not self.ended(ids):
                    ids.append(token)
                    sure.append(one)
            if agreed == len(guess):
                length += len(piece) + agreed
                piece = chosen[-1:]
            else:  # the cache holds tokens that were not written
                cache = before
                piece = [*piece, *chosen[: agreed + 1]]
        self.known.append(ids)
        return ids, sure

    def guess(self, ids: list[int]) -> list[int]:
        """How the latest answer that began like this one went on, but for its last token."""
        if not ids:
            return []
        return next((k[len(ids) : -1] for k in reversed(self.known) if k[: len(ids)] == ids), [])

    def ended(self, ids: list[int]) -> bool:
        return bool(ids) and (len(ids) >= self.max_new_tokens or self.language_model.ends(ids))

    def run(self, piece: Sequence[int], cache: Any, length: int, rows: int) -> tuple[torch.Tensor, Any]:
        positions = torch.arange(length + len(piece), device=self.language_model.device)
        return run_piece(self.language_model, list(piece), cache, positions, rows)
