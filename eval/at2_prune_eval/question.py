"""One question through every method: one draft, every different set of kept passages answered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from at2_prune.datasets import Question
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.pruning.auto_k import Candidate, most_confident
from at2_prune.pruning.selection import AUTO, AUTO_KS
from at2_prune.scorers import Task

from .bench import Answer, Bench
from .methods import Method
from .metrics import answer_scores, support_scores
from .names import OneK
from .store import Record, text_of

__all__ = ["answer_question"]

Answers = Mapping[tuple[int, ...], Answer]
Prompts = Mapping[tuple[int, ...], EncodedPrompt]


def answer_question(bench: Bench, methods: Sequence[Method], question: Question, ks: Sequence[OneK]) -> Record:
    """Draft once, let every method choose, answer every different set of kept passages once.

    Args:
        bench: the model.
        methods: what to compare.
        question: with answer and gold passages.
        ks: how many passages to keep; with `auto`, every method also answers from the best 1, 2, 3 and 5, and the
            answer that the model is most confident of is taken.

    Returns:
        JSON values: `id, question, answer, aliases, kind, gold, passages, draft, prompt_tokens, draft_cost` and
        `methods.<name>` with `scores` (one a passage, or None), `uses_draft`, `cost` of choosing on top of the draft,
        `fell_back` (no draft to look at) and `at.<k>` with `kept` (indices, in the order shown), `answer`, its scores,
        those of `kept` against the gold passages, `passages` (how many are kept), and `prompt_tokens` to answer from:
        for `auto` those of all contexts together, what they share counted once.
    """
    numbers = [k for k in ks if k != AUTO]
    tried = [*numbers, *(AUTO_KS if AUTO in ks else ())]
    groups = tuple(dict.fromkeys(group for method in methods for group in method.row_groups))
    prompt = bench.language_model.encode(question.text, question.passages)
    drafted = bench.draft(prompt, groups)
    task = Task(bench.language_model, question.text, question.passages, prompt, drafted.draft)
    choices = {method.name: method.choose(bench, task, question, sorted(set(tried))) for method in methods}
    costs = {method.name: choices[method.name].cost + drafted.reading(method.row_groups) for method in methods}
    uses_draft = {method.name: method.uses_draft for method in methods}
    everything = tuple(range(len(question.passages)))
    sets = {tuple(kept) for choice in choices.values() for kept in choice.kept.values()} - {everything}
    ordered = sorted(sets)
    prompts = {
        kept: bench.language_model.encode(question.text, [question.passages[i] for i in kept]) for kept in ordered
    }
    compared = set[tuple[int, ...]]()
    if AUTO in ks:
        ranked = [choices[method.name].kept for method in methods if method.scores]
        compared = {tuple(kept[str(k)]) for kept in ranked for k in AUTO_KS}
    written = bench.answers(
        [prompts[kept] for kept in ordered], drafted.draft.ids, [kept in compared for kept in ordered]
    )
    answers = dict(zip(ordered, written, strict=True))
    if everything in compared:  # as few passages as that: what the draft's probability was is not remembered
        answers[everything] = bench.answers([prompt], drafted.draft.ids, [True])[0]
    answers[everything] = replace(answers.get(everything, Answer("")), text=drafted.draft.text)
    prompts[everything] = prompt

    def entries(method: Method) -> dict[str, Any]:
        kept = choices[method.name].kept
        found = {k: _entry(question, kept[k], answers, prompts) for k in kept if not k.isdigit() or int(k) in numbers}
        if AUTO in ks and method.scores:
            found[AUTO] = _surest(question, [kept[str(k)] for k in AUTO_KS], answers, prompts)
        return found

    return {
        "id": question.id,
        **text_of(question),
        "kind": question.kind,
        "gold": list(question.gold),
        "draft": drafted.draft.text,
        "prompt_tokens": len(prompt),
        "draft_cost": asdict(drafted.cost),
        "methods": {
            name: {
                "scores": choice.scores,
                "uses_draft": uses_draft[name],
                "cost": asdict(costs[name]),
                "fell_back": choice.fell_back,
                "at": at,
            }
            for name, choice, at in ((m.name, choices[m.name], entries(m)) for m in methods)
        },
    }


def _entry(question: Question, kept: list[int], answers: Answers, prompts: Prompts) -> dict[str, Any]:
    answer = answers[tuple(kept)]
    return {
        "kept": kept,
        "answer": answer.text,
        **asdict(answer_scores(answer.text, [question.answer or "", *question.aliases])),
        **asdict(support_scores(kept, question.gold)),
        "passages": len(kept),
        "prompt_tokens": len(prompts[tuple(kept)]),
    }


def _surest(question: Question, sets: Sequence[list[int]], answers: Answers, prompts: Prompts) -> dict[str, Any]:
    def candidate(kept: list[int]) -> Candidate:
        answer = answers[tuple(kept)]
        assert answer.log_probability is not None
        return Candidate(len(kept), kept, answer.text, answer.log_probability)

    entry = _entry(question, most_confident([candidate(kept) for kept in sets]).kept, answers, prompts)
    different = dict.fromkeys(map(tuple, sets))
    return {**entry, "prompt_tokens": _distinct_tokens([prompts[kept].ids for kept in different])}


def _distinct_tokens(sequences: Sequence[list[int]]) -> int:
    """Tokens to run if common beginnings are run once."""
    total = 0
    before: list[int] = []
    for ids in sorted(sequences):
        shared = next((i for i, (one, other) in enumerate(zip(before, ids, strict=False)) if one != other), len(before))
        total += len(ids) - min(shared, len(ids))
        before = ids
    return total
