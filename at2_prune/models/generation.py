"""Finds the final answer in the tokens that a model wrote, and computes the answer's log-probability.

A reasoning model writes thoughts before its final answer. The thoughts are not part of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from .compatibility import THOUGHTS
from .prompts import PromptTemplate, TextCodec

__all__ = [
    "AnswerParser",
    "Generation",
    "GreedyLogProbabilities",
    "OwnSettings",
    "StopAtAnswersEnd",
    "greedy_log_probabilities",
]


@dataclass(frozen=True)
class Generation:
    """The tokens that a model wrote after one prompt, and the final answer in them."""

    ids: list[int]
    """Every token that the model wrote, thoughts included, without the tokens that ended the text."""
    answer: tuple[int, int]
    """The span of the final answer in `ids`. The span leaves out white space around the answer, and everything from the
    first stop string on."""
    text: str
    """The final answer. It is empty if the model wrote no answer."""
    log_probability: float = -math.inf
    """The log-probability of the final answer and of the token after the answer, if there is one. This token usually
    ends the answer. The value is minus infinity if there is no answer, or if the log-probabilities of the tokens are
    unknown."""

    only_thoughts: bool = False
    """True if the model stopped within its thoughts and wrote no answer."""

    @property
    def answer_ids(self) -> list[int]:
        return self.ids[slice(*self.answer)]


class AnswerParser:
    """Finds the final answer in the tokens that a model wrote.

    Args:
        codec: the model's tokenizer.
        template: the prompt's template. Its stop strings end an answer.
    """

    def __init__(self, codec: TextCodec, template: PromptTemplate) -> None:
        self._codec = codec
        self._stops = template.stop
        self._prompted = getattr(template, "tail", "")
        self._marker = getattr(template, "thoughts_end", "")  # a user's template may lack this attribute

    def parse(self, ids: list[int], log_probabilities: Sequence[float] = ()) -> Generation:
        """Find the final answer in the tokens.

        Args:
            ids: the tokens, without the tokens that ended the text.
            log_probabilities: one log-probability for each token. If a token ended the text, its log-probability
                follows. If the sequence is empty, the answer's log-probability is minus infinity.
        """
        start, stop = self._after_thoughts(ids), len(ids)
        unclosed = 0 < start == len(ids) and not self._closed(ids)
        while start < stop and self._is_blank(ids[start]):
            start += 1
        if self._stops:
            before = self._before_stop(self._text(ids[start:stop]))
            stop = next(i for i in range(start, stop + 1) if self._text(ids[start:i]).startswith(before))
        while stop > start and self._is_blank(ids[stop - 1]):
            stop -= 1
        text = self._before_stop(self._text(ids[start:stop]))
        known = log_probabilities if stop > start else ()
        total = math.fsum(known[start : stop + 1]) if known else -math.inf  # with the next token, if there is one
        return Generation(ids, (start, stop), text.strip(), total, unclosed)

    def has_stopped(self, ids: list[int]) -> bool:
        """Return whether the answer contains one of the template's stop strings."""
        text = self._text(ids[self._after_thoughts(ids) :])
        return any(stop in text for stop in self._stops)

    def _after_thoughts(self, ids: list[int]) -> int:
        """Return the index of the answer's first token.

        The index is 0 if there are no thoughts. It is `len(ids)` if no marker closes the thoughts.
        """
        text = self._codec.decode(ids, special=True)
        if self._marker:
            return self._end_of(self._marker, ids) if self._marker in text else len(ids)
        for opening, closing in THOUGHTS:
            if closing in text:
                return self._end_of(closing, ids)
            if opening in text or (opening in self._prompted and closing not in self._prompted):
                return len(ids)
        return 0

    def _closed(self, ids: list[int]) -> bool:
        """Return whether the tokens contain a marker that closes the thoughts."""
        text = self._codec.decode(ids, special=True)
        return any(marker in text for marker in ([self._marker] if self._marker else [end for _, end in THOUGHTS]))

    def _end_of(self, marker: str, ids: list[int]) -> int:
        """Return the index of the first token after a marker. The decoded tokens must contain the marker."""
        return next(i for i in range(1, len(ids) + 1) if marker in self._codec.decode(ids[:i], special=True))

    def _text(self, ids: list[int]) -> str:
        return self._codec.decode(ids).lstrip()

    def _is_blank(self, token: int) -> bool:
        return not self._codec.decode([token]).strip()

    def _before_stop(self, text: str) -> str:
        return text[: min((text.index(stop) for stop in self._stops if stop in text), default=len(text))].rstrip()


class StopAtAnswersEnd(StoppingCriteria):
    """Ends a sequence as soon as its answer contains one of the template's stop strings.

    Args:
        parser: finds the answer.
        prompt_tokens: the number of tokens before the first token that the model writes.
    """

    def __init__(self, parser: AnswerParser, prompt_tokens: int) -> None:
        self._parser = parser
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:  # type: ignore[override]
        done = [self._parser.has_stopped(ids) for ids in input_ids[:, self._prompt_tokens :].tolist()]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)


class OwnSettings(GenerationConfig):
    """Settings of `generate` that ignore the model's generation_config.json.

    That file may tell `generate` to suppress or force tokens. Answers with a shared prefix are written without
    `generate`, so these settings do not affect them. If `generate` suppressed or forced tokens, its answers could
    differ from answers with a shared prefix. `LanguageModel` takes only the end tokens from the file, for both kinds of
    answers.
    """

    def update(self, defaults_only: bool = False, **settings: Any) -> dict[str, Any]:  # type: ignore[override]
        """Update the settings, but ignore the default settings of a model.

        A model's default settings are recognised by their entry `transformers_version`.
        """
        if defaults_only and "transformers_version" in settings:
            return {}
        return super().update(defaults_only=defaults_only, **settings)


class GreedyLogProbabilities(LogitsProcessor):
    """Records the log-probability of every token that greedy decoding chooses."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        """One tensor `(sequences,)` for each decoding step."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        self.steps.append(greedy_log_probabilities(scores))
        return scores


def greedy_log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each row's most probable token, `(rows,)` float32.

    Args:
        logits: `(rows, vocabulary)`.

    Example:
        >>> greedy_log_probabilities(torch.tensor([[0.0, 0.0], [50.0, 0.0]]))
        tensor([-0.6931,  0.0000])
    """
    logits = logits.float()
    return logits.amax(-1) - logits.logsumexp(-1)
