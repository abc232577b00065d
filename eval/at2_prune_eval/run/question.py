"""Answer one question with every method: one draft, and one answer for every different set of kept passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from at2_prune.datasets import Question
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.pruning.auto_k import Candidate, most_confident
from at2_prune.pruning.loop import Answer, Scored
from at2_prune.pruning.selection import AUTO, AUTO_KS, K
from at2_prune.scorers import Task

from ..loop.cached_loop import CachedLoop
from ..metrics import answer_scores, support_scores
from ..records import Record, text_of
from .methods import Choice, Method

__all__ = ["answer_question"]

Answers = Mapping[tuple[int, ...], Answer]


def answer_question(loop: CachedLoop, methods: Sequence[Method], question: Question, ks: Sequence[K]) -> Record:
    """Write one draft, let every method choose passages, and answer once from every different set of kept passages.

    Args:
        loop: the pruning loop, which caches its results.
        methods: the methods to compare.
        question: a question with an answer and gold passages.
        ks: the numbers of passages to keep. With `auto`, the reader also answers from the best 1, 2, 3 and 5 passages
            of every method, and the most confident answer is taken.

    Returns:
        JSON values with these keys:

        `id`, `question`, `answer`, `aliases`, `kind`, `gold`, `passages`: the question;
        `draft`, `draft_cost`: the text of the draft, and the cost of writing it;
        `prompt_tokens`: the number of tokens in the reader's prompt from all passages;
        `scoring_prompt_tokens`: with a separate reader, the number of tokens in the scoring model's prompt;
        `methods.<name>`: the results of a method. They have the following keys.

        `scores`: one score for each passage, or None;
        `uses_draft`: whether the method reads the draft;
        `cost`: the cost of choosing, without the cost of writing the draft;
        `fell_back`: whether the draft was empty, so that there was nothing to score;
        `at.<k>`: the result at one k. It holds `kept` (the indices of the kept passages, in the order shown),
        `passages` (the number of kept passages), `answer`, the scores of the answer and of the kept passages, and
        `prompt_tokens` (the number of tokens in the prompt of the answer). For `auto`, `prompt_tokens` is the number of
        tokens in the prompts of all answers that `auto` compares. Shared prefixes are counted once.
    """
    tried = {*(k for k in ks if k != AUTO), *(AUTO_KS if AUTO in ks else ())}
    groups = tuple(dict.fromkeys(group for method in methods for group in method.row_groups))
    prompt = loop.language_model.encode(question.text, question.passages)
    asked = loop.reader.encode(question.text, question.passages) if loop.two_models else prompt
    drafted = loop.draft(prompt, groups, asked)
    task = Task(loop.language_model, question.text, question.passages, prompt, drafted.draft)
    choices = {method.name: method.choose(loop, task, question, sorted(tried)) for method in methods}
    unscored = Scored(prompt, drafted.draft, [0.0] * len(question.passages))
    answers = _answers(loop, question, unscored, choices, asked)
    return {
        "id": question.id,
        **text_of(question),
        "kind": question.kind,
        "gold": list(question.gold),
        "draft": drafted.draft.text,
        "prompt_tokens": len(asked),
        **({"scoring_prompt_tokens": len(prompt)} if loop.two_models else {}),
        "draft_cost": asdict(drafted.cost),
        "methods": {
            method.name: {
                "scores": choices[method.name].scores,
                "uses_draft": method.uses_draft,
                "cost": asdict(choices[method.name].cost + drafted.reading(method.row_groups)),
                "fell_back": choices[method.name].fell_back,
                "at": _entries(question, method, choices[method.name], answers, ks),
            }
            for method in methods
        },
    }


def _answers(
    loop: CachedLoop, question: Question, drafted: Scored, choices: Mapping[str, Choice], asked: EncodedPrompt
) -> Answers:
    """Return the answer from every different set of kept passages. The draft is the answer from all passages."""
    everything = drafted.everything
    sets = {tuple(kept) for choice in choices.values() for kept in choice.kept.values()} - {everything}
    answers = loop.answer_kept(question.text, question.passages, drafted, sorted(sets))
    return answers | {everything: Answer(drafted.draft.text, drafted.draft.log_probability, asked)}


def _entries(
    question: Question, method: Method, choice: Choice, answers: Answers, ks: Sequence[K]
) -> dict[str, dict[str, Any]]:
    """Return, by k, the passages that a method keeps, the answer from these passages, and the scores of both."""
    asked = {str(k) for k in ks}
    found = {k: _entry(question, kept, answers) for k, kept in choice.kept.items() if not k.isdigit() or k in asked}
    if AUTO in ks and method.scores:
        found[AUTO] = _auto_entry(question, [choice.kept[str(k)] for k in AUTO_KS], answers)
    return found


def _entry(question: Question, kept: list[int], answers: Answers) -> dict[str, Any]:
    answer = answers[tuple(kept)]
    return {
        "kept": kept,
        "answer": answer.text,
        **asdict(answer_scores(answer.text, [question.answer or "", *question.aliases])),
        **asdict(support_scores(kept, question.gold)),
        "passages": len(kept),
        "prompt_tokens": len(_prompt(answer)),
    }


def _auto_entry(question: Question, sets: Sequence[list[int]], answers: Answers) -> dict[str, Any]:
    tried = [(kept, answers[tuple(kept)]) for kept in sets]
    best = most_confident([Candidate(len(kept), kept, one.text, one.log_probability) for kept, one in tried])
    different = dict.fromkeys(map(tuple, sets))
    tokens = _distinct_tokens([_prompt(answers[kept]).ids for kept in different])
    return {**_entry(question, best.kept, answers), "prompt_tokens": tokens}


def _prompt(answer: Answer) -> EncodedPrompt:
    assert answer.prompt is not None  # `CachedLoop` records the prompt of every answer
    return answer.prompt


def _distinct_tokens(sequences: Sequence[list[int]]) -> int:
    """Return the number of tokens that a model runs for these sequences, if shared prefixes are run once."""
    total = 0
    before: list[int] = []
    for ids in sorted(sequences):
        shared = next((i for i, (one, other) in enumerate(zip(before, ids, strict=False)) if one != other), len(before))
        total += len(ids) - min(shared, len(ids))
        before = ids
    return total
