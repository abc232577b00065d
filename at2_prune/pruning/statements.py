"""Score the sources for every statement of an answer. One forward pass reads the attention of all statements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ..ablation import ablation_outcomes, random_masks, seeded_generator
from ..attention.rows import Span
from ..errors import ContextTooLongError, EmptyDraftError, InputError
from ..models.drafts import Draft
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..models.readouts import Readout
from ..models.statements import decoded_offsets, read_parts, sentence_spans, split_readout, token_parts
from ..passages import Passage
from ..scorers.base import Scorer, Task

__all__ = ["Answered", "Outcomes", "Statements", "answered", "check_fits", "check_statements", "score_statements"]

Statements = Literal["sentence"] | Sequence[Span]
"""The statements of an answer: its sentences, or character spans `(start, stop)` in order and without overlap."""


@dataclass(frozen=True)
class Answered:
    """An answer, cut into statements."""

    text: str
    ids: list[int]
    """The tokens of the whole answer."""
    spans: list[Span]
    """The character span of each statement, without white space at its ends."""
    parts: list[Span]
    """The span of each statement's tokens in `ids`."""
    readout: Readout | None = None
    """The attention that was read while the model wrote the answer, or None if no attention was read."""


def check_statements(scorer: Scorer, statements: Statements, ablations: int) -> None:
    """Raise `InputError` if the scorer reads no draft or an option cannot be used. This check runs no model."""
    check_reads_answers(scorer.name, scorer.uses_draft)
    check_ablations(ablations)
    if isinstance(statements, str) and statements != "sentence":
        raise InputError(f"statements must be 'sentence' or a list of spans (start, stop), got {statements!r}")


def check_reads_answers(method: str, uses_draft: bool) -> None:
    """Raise `InputError` unless the method reads an answer."""
    if not uses_draft:
        raise InputError(
            f"the method {method} reads no answer, so it gives every statement the same scores: use a method "
            "that reads the answer, for example method='at2'"
        )


def check_ablations(ablations: int) -> None:
    """Raise `InputError` unless the number of ablations is 0, or is large enough to fit scores to the ablations."""
    if isinstance(ablations, bool) or not isinstance(ablations, int) or ablations < 0 or ablations in (1, 2):
        raise InputError(f"ablations must be 0, or at least 3 (a fit needs 3 points), got {ablations!r}")


def answered(model: LanguageModel, answer: str | Draft, statements: Statements) -> Answered:
    """Cut an answer into statements, and find the tokens of each statement.

    Args:
        model: the model that reads the answer.
        answer: a text, or a draft that the model wrote.
        statements: see `Statements`.

    Raises:
        EmptyDraftError: the answer is empty.
        InputError: a span is out of range, overlaps the span before it, or holds no token.
        MissingExtraError: the statements are sentences, and sentencex is not installed.
    """
    text = answer if isinstance(answer, str) else answer.text
    if not text.strip():
        raise EmptyDraftError(f"the answer is empty ({text!r}), so there is nothing to attribute; pass a text")
    ids, offsets = model.encode_answer(text)
    readout = None
    if isinstance(answer, Draft) and answer.ids:
        ids, offsets = list(answer.ids), decoded_offsets(model, answer.ids)
        written = model.codec.decode(ids)
        shift = len(written) - len(written.lstrip())
        offsets = [(max(0, start - shift), max(0, stop - shift)) for start, stop in offsets]
        readout = answer.readout
    if statements == "sentence":
        spans, parts = _sentences(text, offsets)
    else:
        spans = _checked(text, statements)  # type: ignore[arg-type]
        parts = token_parts(offsets, spans)
        for index, ((start, stop), (first, last)) in enumerate(zip(spans, parts, strict=True)):
            if first == last or not text[start:stop].strip():
                raise InputError(f"statement {index} ({text[start:stop]!r:.80}) holds no token: choose a longer span")
    trimmed = [_trimmed(text, span) for span in spans]
    return Answered(text, ids, trimmed, parts, readout)


def score_statements(
    scorer: Scorer,
    model: LanguageModel,
    task: tuple[str, Sequence[Passage], EncodedPrompt],
    answer: Answered,
    outcomes: Outcomes | None = None,
) -> list[list[float]]:
    """Return the scores of all sources for each statement.

    An attention scorer needs one forward pass for all statements. It needs no pass if the attention was read while the
    model wrote the answer. A scorer that ablates sources runs each ablation once for all statements.

    Args:
        scorer: a scorer that reads a draft.
        model: the scoring model.
        task: the question, the passages and their prompt.
        answer: the answer.
        outcomes: the outcomes of ablations of this prompt and answer. Several calls can share them, so that the same
            set of ablations is run only once. With None, this call makes its own.
    """
    question, passages, prompt = task
    readouts = _readouts(scorer, model, prompt, answer)
    outcomes = outcomes or Outcomes(model, prompt, answer)
    found = []
    for index, ((start, stop), readout) in enumerate(zip(answer.parts, readouts, strict=True)):
        # Some scorers run the model themselves, such as gradient x input. For these scorers, the part of the answer
        # before the statement is appended to the prompt.
        before = replace(prompt, ids=[*prompt.ids, *answer.ids[:start]])
        text = answer.text[slice(*answer.spans[index])]
        draft = Draft(text, answer.ids[start:stop], prompt_ids=before.ids, readout=readout)
        one = Task(model, question, passages, before, draft, outcomes=outcomes.of(index))
        found.append(scorer.score(one).tolist())
    return found


class Outcomes:
    """The outcomes of ablations of one prompt. Each set of ablations is run once for all statements."""

    def __init__(self, model: LanguageModel, prompt: EncodedPrompt, answer: Answered) -> None:
        self._model = model
        self._prompt = prompt
        self._answer = answer
        self._known: dict[tuple[tuple[bool, ...], ...], torch.Tensor] = {}

    def __call__(self, masks: torch.Tensor) -> torch.Tensor:
        """Return the log-odds `(ablations, statements)` under each ablation."""
        key = tuple(map(tuple, masks.bool().tolist()))
        if key not in self._known:
            self._known[key] = ablation_outcomes(self._model, self._prompt, self._answer.ids, masks, self._answer.parts)
        return self._known[key]

    def of(self, statement: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the function that gives one statement's log-odds under each ablation."""
        return lambda masks: self(masks)[:, statement]

    def random(self, question: str, count: int) -> tuple[list[list[bool]], torch.Tensor]:
        """Draw and run random ablations. The last ablation keeps every source.

        Returns:
            The masks, and the log-odds `(ablations, statements)`.
        """
        sources = len(self._prompt.sources)
        drawn = random_masks(sources, count - 1, seeded_generator(0, f"calibration {question}"))
        masks = torch.cat([drawn, torch.ones(1, sources, dtype=torch.bool)])
        return masks.tolist(), self(masks)


def check_fits(model: LanguageModel, question: str, answer: Answered) -> None:
    """Raise `ContextTooLongError` if question and answer do not fit the context even without passages."""
    bare, limit = len(model.encode(question, [])), model.context_length
    if limit is not None and bare + len(answer.ids) > limit:
        raise ContextTooLongError(
            f"the answer takes {len(answer.ids)} tokens and the question {bare} tokens, but the context of "
            f"{model.name} holds {limit} tokens: attribute a part of the answer, or use a model with a longer context"
        )


def _readouts(
    scorer: Scorer, model: LanguageModel, prompt: EncodedPrompt, answer: Answered
) -> Sequence[Readout | None]:
    groups, known = scorer.draft_groups, answer.readout
    if not groups:
        return [None] * len(answer.parts)
    if known is not None and known.row_mass is not None and known.row_mass.shape[-1] == len(prompt.sources):
        complete = known.every_layer if scorer.layers is None else {*scorer.layers} <= {*known.layers}
        if complete and all(group in known.mass for group in groups if group.rows != "draft"):
            split = split_readout(known, answer.parts, groups)
            if split is not None:
                return split
    return read_parts(model, prompt, answer.ids, answer.parts, groups, scorer.layers)


def _sentences(text: str, offsets: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """Return the spans of sentences and of their tokens. A sentence without tokens joins the sentence before it."""
    spans: list[Span] = []
    parts: list[Span] = []
    every = sentence_spans(text)
    for span, part in zip(every, token_parts(offsets, every), strict=True):
        if spans and (part[0] == part[1] or not text[slice(*span)].strip()):
            spans[-1], parts[-1] = (spans[-1][0], span[1]), (parts[-1][0], max(part[1], parts[-1][1]))
        elif part[0] < part[1]:
            spans.append(span)
            parts.append(part)
    return spans, parts


def _checked(text: str, spans: Sequence[Span]) -> list[Span]:
    """Return the spans as a list.

    Raises:
        InputError: there is no span, or a span is not a pair of integers, is empty, lies outside the text, or
            begins before the end of the span before it.
    """
    if not isinstance(spans, Sequence) or not spans:
        raise InputError(f"statements must be 'sentence' or at least one span (start, stop), got {spans!r:.80}")
    end, result = 0, []
    for index, span in enumerate(spans):
        if not isinstance(span, Sequence) or isinstance(span, str) or len(span) != 2:
            raise InputError(f"statement {index} must be a span (start, stop) of the answer, got {span!r:.80}")
        start, stop = span
        if any(isinstance(place, bool) or not isinstance(place, int) for place in (start, stop)):
            raise InputError(f"statement {index} must be a span of integers, got {span!r:.80}")
        if not 0 <= start < stop <= len(text):
            raise InputError(
                f"statement {index} spans characters {start} to {stop}, but the answer has {len(text)} characters: "
                "give spans with 0 <= start < stop <= length"
            )
        if start < end:
            raise InputError(
                f"statement {index} begins at character {start}, but the statement before it ends at character {end}: "
                "give spans in order and without overlap"
            )
        result.append((start, stop))
        end = stop
    return result


def _trimmed(text: str, span: Span) -> Span:
    own = text[slice(*span)]
    return span[0] + len(own) - len(own.lstrip()), span[1] - len(own) + len(own.rstrip())
