"""Answers to prompts that begin alike, such as one question with different passages kept.

What prompts share is computed once: a prompt is cut where its sources begin and end, equal beginnings make a tree, and
every node's keys and values are forked by the prompts that pass through it. An answer that many prompts are expected to
give, the draft's say, is checked along with the prompt's last piece in one forward pass (speculative decoding,
Leviathan et al., arXiv 2211.17192, with the guess for a draft model). Both are exact: the tokens are those of greedy
decoding. A prompt is always cut at the same places, so its answer does not depend on the company it is asked in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from .forward import run_piece, shares_prefixes
from .model import Generation, LanguageModel
from .prompt import EncodedPrompt

__all__ = ["write_answers"]


@torch.inference_mode()
def write_answers(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    guess: Sequence[int] = (),
    max_new_tokens: int = 48,
) -> list[Generation]:
    """Continue each prompt greedily, as `LanguageModel.generate` does one by one.

    Args:
        language_model: the model.
        prompts: at least one.
        guess: token ids that the answers may begin with; a wrong guess costs a little time, never the answer.
        max_new_tokens: an answer is cut there.

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
    tree: dict[tuple[int, ...], Any] = {}
    for index, prompt in enumerate(prompts):
        node = tree
        for piece in _pieces(prompt):
            node = node.setdefault(piece, {})
        node.setdefault((), []).append(index)
    writer = _Writer(language_model, list(guess)[: max_new_tokens - 1], max_new_tokens)
    written = dict(writer.descend(tree, None, 0))
    return [language_model.generation(written[index]) for index in range(len(prompts))]


def _pieces(prompt: EncodedPrompt) -> list[tuple[int, ...]]:
    """The prompt's tokens: what comes before the sources, each source up to the next, what comes after the last."""
    starts = [start for start, _ in prompt.sources]
    cuts = [0, *starts, *([prompt.sources[-1][1]] if starts else []), len(prompt)]
    return [tuple(prompt.ids[start:stop]) for start, stop in pairwise(cuts) if stop > start]


class _Writer:
    def __init__(self, language_model: LanguageModel, guess: list[int], max_new_tokens: int) -> None:
        self.language_model = language_model
        self.guess = guess
        self.max_new_tokens = max_new_tokens

    def descend(self, node: dict[tuple[int, ...], Any], cache: Any, length: int) -> Iterator[tuple[int, list[int]]]:
        """Prompts' indices and what the model writes after them.

        Args:
            node: the pieces that come next, each with the pieces after it; under the empty one, prompts that end here.
            cache: keys and values of what came before; this call may use it up.
            length: its tokens.
        """
        for count, (piece, after) in enumerate(node.items(), start=1):
            mine = cache if count == len(node) else copy.deepcopy(cache)
            deeper = {piece: children for piece, children in after.items() if piece}
            if () in after:
                ids = self.finish(list(piece), copy.deepcopy(mine) if deeper else mine, length)
                yield from ((index, ids) for index in after[()])
            if deeper:
                mine = self.run(piece, mine, length, 0)[1]
                yield from self.descend(deeper, mine, length + len(piece))

    def finish(self, piece: list[int], cache: Any, length: int) -> list[int]:
        """What the model writes after the last piece: the guess as far as it agrees, then token by token."""
        before = copy.deepcopy(cache) if self.guess else None
        logits, cache = self.run([*piece, *self.guess], cache, length, len(self.guess) + 1)
        chosen = logits.argmax(-1).tolist()
        agreed = next((i for i, token in enumerate(self.guess) if chosen[i] != token), len(self.guess))
        ids = chosen[:1]
        while len(ids) <= agreed and not self.ended(ids):
            ids.append(chosen[len(ids)])
        cached = length + len(piece) + len(self.guess)
        if agreed < len(self.guess) and not self.ended(ids):  # the cache holds tokens that were not written
            cached = length + len(piece) + len(ids)
            logits, cache = self.run([*piece, *ids], before, length, 1)
            ids.append(int(logits[-1].argmax()))
        while not self.ended(ids):
            logits, cache = self.run(ids[-1:], cache, cached, 1)
            cached += 1
            ids.append(int(logits[-1].argmax()))
        return ids

    def ended(self, ids: list[int]) -> bool:
        return len(ids) >= self.max_new_tokens or self.language_model.ends(ids)

    def run(self, piece: Sequence[int], cache: Any, length: int, rows: int) -> tuple[torch.Tensor, Any]:
        positions = torch.arange(length + len(piece), device=self.language_model.device)
        return run_piece(self.language_model, list(piece), cache, positions, rows)
