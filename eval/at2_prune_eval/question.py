"""One question through every method: one draft, every different set of kept passages answered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from at2_prune.questions import Question
from at2_prune.scorers import Task

from .bench import Bench
from .cost import Cost, metered
from .methods import Choice, Method
from .metrics import answer_scores, support_scores
from .store import Record

__all__ = ["answer_question"]


def answer_question(bench: Bench, methods: Sequence[Method], question: Question, ks: Sequence[int]) -> Record:
    """Draft once, let every method choose, answer every different set of kept passages once.

    Args:
        bench: the model.
        methods: what to compare.
        question: with answer and gold passages.
        ks: how many passages to keep.

    Returns:
        JSON values: `id, question, answer, aliases, kind, gold, passages, draft, prompt_tokens, draft_cost` and
        `methods.<name>` with `scores` (one a passage, or None), `uses_draft`, `cost` of choosing on top of the draft,
        `fell_back` (no draft to look at) and `at.<k>` with `kept` (indices, in the order shown), `answer`, its scores,
        those of `kept` against the gold passages, and `prompt_tokens`.
    """
    groups = tuple(dict.fromkeys(group for method in methods for group in method.row_groups))
    prompt = bench.language_model.encode(question.text, question.passages)
    drafted = bench.draft(prompt, groups)
    ablator = Ablator(bench, prompt, drafted.draft.ids)
    task = Task(bench.language_model, question.text, question.passages, prompt, drafted.draft, ablator)
    choices: dict[str, Choice] = {}
    costs: dict[str, Cost] = {}
    for method in methods:
        ablator.begin()
        with metered(bench.language_model) as meter:
            choices[method.name] = method.choose(task, question, ks)
        costs[method.name] = ablator.correct(meter.cost) + drafted.reading(method.row_groups)
    uses_draft = {method.name: method.uses_draft for method in methods}
    everything = tuple(range(len(question.passages)))
    sets = {tuple(kept) for choice in choices.values() for kept in choice.kept.values()} - {everything}
    ordered = sorted(sets)
    prompts = {
        kept: bench.language_model.encode(question.text, [question.passages[i] for i in kept]) for kept in ordered
    }
    texts = bench.answers([prompts[kept] for kept in ordered], drafted.draft.ids)
    answers = {everything: drafted.draft.text, **dict(zip(ordered, texts, strict=True))}
    lengths = {everything: len(prompt), **{kept: len(encoded) for kept, encoded in prompts.items()}}
    return {
        "id": question.id,
        "question": question.text,
        "answer": question.answer,
        "aliases": list(question.aliases),
        "kind": question.kind,
        "gold": list(question.gold),
        "passages": [{"title": passage.title, "text": passage.text} for passage in question.passages],
        "draft": drafted.draft.text,
        "prompt_tokens": len(prompt),
        "draft_cost": asdict(drafted.cost),
        "methods": {
            name: {
                "scores": choice.scores,
                "uses_draft": uses_draft[name],
                "cost": asdict(costs[name]),
                "fell_back": choice.fell_back,
                "at": {
                    k: _entry(question, kept, answers[tuple(kept)], lengths[tuple(kept)])
                    for k, kept in choice.kept.items()
                },
            }
            for name, choice in choices.items()
        },
    }


class Ablator:
    """Runs a task's ablations on the bench, and keeps the account straight.

    What the bench remembers takes no time now, but is part of what a method costs.
    """

    def __init__(self, bench: Bench, prompt: Any, target: Sequence[int]) -> None:
        self._bench = bench
        self._prompt = prompt
        self._target = target
        self.begin()

    def begin(self) -> None:
        """Forget what earlier methods asked for."""
        self._due = self._spent = Cost()

    def __call__(self, masks: torch.Tensor) -> torch.Tensor:
        with metered(self._bench.language_model) as meter:
            outcomes, cost = self._bench.outcomes(self._prompt, self._target, masks)
        self._spent += meter.cost
        self._due += cost
        return outcomes

    def correct(self, measured: Cost) -> Cost:
        """The measured cost of a method, with that of its ablations as if they had been run for it."""
        return Cost(
            max(0.0, measured.seconds - self._spent.seconds) + self._due.seconds,
            max(0.0, measured.tokens - self._spent.tokens) + self._due.tokens,
            self._due.memory or measured.memory,
        )


def _entry(question: Question, kept: list[int], answer: str, prompt_tokens: int) -> dict[str, Any]:
    return {
        "kept": kept,
        "answer": answer,
        **asdict(answer_scores(answer, [question.answer or "", *question.aliases])),
        **asdict(support_scores(kept, question.gold)),
        "prompt_tokens": prompt_tokens,
    }
