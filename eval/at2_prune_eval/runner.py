"""Methods x k over questions: one draft a question, every different set of kept passages answered once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from at2_prune.draft import write_drafts
from at2_prune.errors import ContextTooLongError, DataError, InputError
from at2_prune.model import LanguageModel
from at2_prune.questions import Question
from at2_prune.scorers import Scorer, Task

from .config import run_config
from .methods import Method, as_methods, check_ks
from .metrics import answer_scores, gold_precision, gold_recall
from .results import summarize
from .store import Record, RunStore
from .table import markdown_table, reading

__all__ = ["answer_question", "evaluate"]


def evaluate(
    language_model: LanguageModel,
    scorers: Sequence[Scorer],
    questions: Sequence[Question],
    ks: Sequence[int],
    out: str | os.PathLike[str],
    *,
    data_name: str,
    limit: int | None = None,
    seed: int | None = None,
    max_new_tokens: int = 48,
    progress: Callable[[Record, bool], None] = lambda record, resumed: None,
) -> dict[str, Any]:
    """Answer questions without pruning, pruned by each scorer at each k, and from the gold passages only.

    Writes a line to `out/questions.jsonl` as each question is done, and `out/results.json` and `out/table.md` at the
    end. Called again with the same arguments it goes on where it stopped.

    Args:
        language_model: drafts and answers.
        scorers: methods that score; their names must differ.
        questions: with answers and gold passages.
        ks: how many passages to keep; duplicates count once, and k of at least a question's passages keeps all.
        out: a folder; one that holds a run with another config is refused.
        data_name: recorded, as are limit and seed, which chose the questions.
        limit: see data_name.
        seed: see data_name.
        max_new_tokens: a draft or answer is cut there.
        progress: called with each question's record, and whether an earlier run had made it.

    Returns:
        The results; see `at2_prune_eval.results.summarize`.

    Raises:
        InputError: a bad k, two methods of one name, another run's folder.
        DataError: a question without answer or gold passages, ids that repeat, a damaged folder.
        ContextTooLongError: a question that does not fit the model's context. All of these before the first draft.
        CacheError: the folder cannot be written to.
    """
    ks = check_ks(ks)
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be an integer of at least 1, got {max_new_tokens!r}")
    methods = as_methods(scorers)
    _check_questions(questions, data_name)
    config = run_config(
        language_model,
        scorers,
        questions,
        ks,
        data_name=data_name,
        limit=limit,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )
    store = RunStore(out, config)
    done = store.load()
    _check_lengths(language_model, [question for question in questions if question.id not in done], max_new_tokens)
    records = []
    for question in questions:
        resumed = question.id in done
        if resumed:
            record = done[question.id]
        else:
            record = answer_question(language_model, methods, question, ks, max_new_tokens)
            store.add(record)
        records.append(record)
        progress(record, resumed)
    results = summarize(records, config)
    store.write_results(results)
    store.write("table.md", f"{markdown_table(results)}\n\n{reading(results)}\n")
    return results


def answer_question(
    language_model: LanguageModel,
    methods: Sequence[Method],
    question: Question,
    ks: Sequence[int],
    max_new_tokens: int = 48,
) -> Record:
    """Draft once, let every method choose, answer every different set of kept passages once.

    Returns:
        `id, question, answer, gold, draft`; `scores` by method; `fell_back`, the methods that had no draft to look at;
        and `methods.<name>.<k or all>` with `kept` (indices, in the order shown), `answer`, its `em` and `f1`, the
        `precision` and `recall` of gold passages, and `seconds` by step. The draft's seconds count for every method
        that looks at it. A set that two methods share is answered once and its seconds count for both; if all
        passages are kept the draft is the answer.
    """
    clock = time.perf_counter
    started = clock()
    groups = list(dict.fromkeys(group for method in methods for group in method.row_groups))
    prompt = language_model.encode(question.text, question.passages)
    draft = write_drafts(language_model, [prompt], groups, max_new_tokens)[0]
    draft_seconds = clock() - started
    task = Task(language_model, question.text, question.passages, prompt, draft)
    everything = tuple(range(len(question.passages)))
    answers = {everything: (draft.text, draft_seconds)}
    record: Record = {
        "id": question.id,
        "question": question.text,
        "answer": question.answer,
        "gold": list(question.gold),
        "draft": draft.text,
        "scores": {},
        "fell_back": [],
        "methods": {},
    }
    for method in methods:
        started = clock()
        choice = method.choose(task, question, ks)
        steps = {"draft": draft_seconds} if method.uses_draft else {}
        if choice.scores is not None:
            steps["score"] = clock() - started
            record["scores"][method.name] = choice.scores
        if choice.fell_back:
            record["fell_back"].append(method.name)
        entries = record["methods"][method.name] = {}
        for k, kept in choice.kept.items():
            shown = tuple(kept)
            if shown not in answers:
                answers[shown] = _answer(language_model, question, shown, max_new_tokens)
            answer, seconds = answers[shown]
            again = {} if shown == everything and method.uses_draft else {"regenerate": seconds}
            entries[k] = _entry(question, kept, answer, steps | again)
    return record


def _answer(
    language_model: LanguageModel, question: Question, kept: Sequence[int], max_new_tokens: int
) -> tuple[str, float]:
    started = time.perf_counter()
    prompt = language_model.encode(question.text, [question.passages[index] for index in kept])
    generations, _ = language_model.generate([prompt], max_new_tokens)
    return generations[0].text, time.perf_counter() - started


def _entry(question: Question, kept: list[int], answer: str, seconds: dict[str, float]) -> dict[str, Any]:
    scores = asdict(answer_scores(answer, question.answer or ""))
    return {
        "kept": kept,
        "answer": answer,
        "em": scores["em"],
        "f1": scores["f1"],
        "precision": gold_precision(kept, question.gold),
        "recall": gold_recall(kept, question.gold),
        "seconds": seconds,
    }


def _check_questions(questions: Sequence[Question], data_name: str) -> None:
    if not questions:
        raise DataError(f"{data_name}: there is no question to evaluate on")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise DataError(f"{data_name}: question id {question.id!r} repeats")
        seen.add(question.id)
        if question.answer is None:
            raise DataError(f"{data_name}: question {question.id!r} has no answer, so F1 and EM cannot be computed")
        if not question.gold:
            raise DataError(
                f"{data_name}: question {question.id!r} names no gold passages (supporting_facts), so recall and the "
                "oracle cannot be computed"
            )


def _check_lengths(language_model: LanguageModel, questions: Sequence[Question], max_new_tokens: int) -> None:
    """Hours into a run is late to learn that a question does not fit."""
    for question in questions:
        try:
            language_model.check_length(len(language_model.encode(question.text, question.passages)), max_new_tokens)
        except ContextTooLongError as error:
            raise ContextTooLongError(f"question {question.id!r}: {error}") from None
