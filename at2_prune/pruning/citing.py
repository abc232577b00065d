"""Attribute the statements of an answer to passages, or to the thoughts that the model wrote before the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import EmptyDraftError, InputError
from ..models.drafts import Draft, write_drafts
from ..models.prompts import EncodedPrompt
from ..models.thoughts import thought_prompt
from ..passages import Passage
from ..progress import progress
from .citations import Citations, Statement, fit_to_ablations
from .long_passages import join_scores
from .scoring import Scoring
from .selection import blank_last
from .statements import (
    Answered,
    Outcomes,
    Statements,
    answered,
    check_fits,
    check_statements,
    score_statements,
)
from .windows import split_windows

__all__ = ["Citing"]


class Citing(Scoring):
    """Scores the sources of each statement of an answer. `Attributor` is the public subclass."""

    def _cite(
        self,
        question: str,
        passages: list[Passage],
        answer: str | Draft | None,
        statements: Statements,
        ablations: int,
    ) -> Citations:
        """Attribute the statements of an answer to passages or sentences; see `Attributor.attribute`."""
        check_statements(self.scorer, statements, ablations)
        prompt = self.encode(question, passages)
        if answer is None:
            answer = self._written(question, passages)
        elif isinstance(answer, Draft) and answer.prompt_ids not in ((), prompt.ids):
            raise InputError("this draft was written for another question or for other passages")
        cut = answered(self.language_model, answer, statements)
        check_fits(self.language_model, question, cut)
        if self._scoring_room.has(len(prompt), cut.text) or self.overflow == "error":
            self.language_model.check_length(len(prompt), len(cut.ids))
            found = self._statements((question, passages, prompt), cut, ablations)
        else:
            found = self._in_windows(question, passages, prompt, cut)
        return Citations(
            question,
            passages,
            cut.text,
            prompt.source_texts,
            prompt.source_passage,
            found,
            self.scorer.name,
            self.granularity,
        )

    def _cite_thoughts(
        self,
        question: str,
        passages: list[Passage],
        draft: Draft | None,
        statements: Statements | None,
        ablations: int,
    ) -> Citations:
        """Attribute an answer to the sentences of the model's thoughts; see `Attributor.attribute_thoughts`."""
        check_statements(self.scorer, statements or "sentence", ablations)
        if self.loop.two_models:
            raise InputError(
                "only the model that wrote the thoughts can score them: use a pruner without a separate reader"
            )
        model = self.language_model
        prompt = self.encode(question, passages)
        if draft is None:
            draft = write_drafts(model, [prompt], max_new_tokens=self.max_new_tokens)[0]
        elif not isinstance(draft, Draft) or draft.prompt_ids != prompt.ids:
            raise InputError("the draft must be a Draft that this model wrote for this question and these passages")
        if not draft.text:
            raise EmptyDraftError(
                f"{model.name} wrote no answer after its thoughts: raise max_new_tokens, which is {self.max_new_tokens}"
            )
        thoughts = thought_prompt(model, prompt, draft)
        cut = answered(model, replace(draft, readout=None), statements or [(0, len(draft.text))])
        model.check_length(len(thoughts), len(cut.ids))
        own = Passage("".join(thoughts.source_texts), title="Thoughts", sentences=tuple(thoughts.source_texts))
        found = self._statements((question, [own], thoughts), cut, ablations)
        texts, owners = thoughts.source_texts, thoughts.source_passage
        return Citations(question, [own], cut.text, texts, owners, found, self.scorer.name, "thought")

    def _written(self, question: str, passages: list[Passage]) -> Draft:
        """Let the reader write an answer. If the passages do not fit together, the reader writes from windows."""
        prompt = self.encode(question, passages)
        if not self.loop.two_models and self._scoring_room.has(len(prompt)):
            return self._write_drafts([prompt])[0]
        scored = self._score_all([question], [passages])[0]
        if scored.error is not None:
            raise scored.error
        return replace(scored.draft, readout=None)

    def _statements(
        self, task: tuple[str, Sequence[Passage], EncodedPrompt], cut: Answered, ablations: int
    ) -> list[Statement]:
        """Score all statements with one prompt. If ablations are asked for, fit the scores to ablations."""
        outcomes = Outcomes(self.language_model, task[2], cut)
        scores = score_statements(self.scorer, self.language_model, task, cut, outcomes)
        found = self._as_statements(cut, scores, task[2])
        if not ablations:
            return found
        masks, log_odds = outcomes.random(task[0], ablations)
        return [
            replace(statement, fit=fit_to_ablations(statement.scores, masks, own))
            for statement, own in zip(found, log_odds.T.tolist(), strict=True)
        ]

    def _in_windows(
        self, question: str, passages: list[Passage], prompt: EncodedPrompt, cut: Answered
    ) -> list[Statement]:
        """Score all statements in each window. A window is a sequence of passages that fits the context.

        No ablations are run, because no window holds all sources.
        """
        room, text = self._scoring_room, cut.text
        parts = room.parts(question, passages, prompt, text)
        windows = [[part.passage for part in parts]]
        if self.scorer.reads_prompt:
            windows = split_windows(windows[0], lambda window: room.fits(question, window, text))
        whole = replace(cut, readout=None)
        scores: list[list[float]] = [[] for _ in cut.parts]
        for window in progress(windows, "scoring windows"):
            task = question, window, self.encode(question, window)
            for own, more in zip(scores, score_statements(self.scorer, self.language_model, task, whole), strict=True):
                own += more
        joined = [join_scores(parts, own, len(prompt.sources)) for own in scores]
        return self._as_statements(cut, joined, prompt)

    def _as_statements(self, cut: Answered, scores: list[list[float]], prompt: EncodedPrompt) -> list[Statement]:
        return [
            Statement(cut.text[start:stop], start, stop, blank_last(own, prompt.source_texts))
            for (start, stop), own in zip(cut.spans, scores, strict=True)
        ]
