"""Choose twenty questions of a run to browse: questions for which pruning raised, lowered or did not change F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from at2_prune.report.marks import Bar
from at2_prune.report.text import count, decimals_for, number, ranking

from ..k_values import ALL, GOLD

__all__ = ["MethodOnQuestion", "QuestionCard", "SourceScore", "choose_questions", "question_cards"]

OUTCOMES = {"helped": "pruning helped", "hurt": "pruning hurt", "unchanged": "F1 unchanged"}


@dataclass(frozen=True)
class SourceScore:
    """The score that one method gave to one passage."""

    score: str
    rank: int
    bar: Bar | None
    kept: str
    """The CSS classes that name the values of k at which the passage is kept."""


@dataclass(frozen=True)
class MethodOnQuestion:
    """The scores and answers of one method for one question."""

    sources: list[SourceScore]
    answers: list[tuple[str, str, str]]
    """For each k: the answer from the kept passages, the F1 of the answer, and the number of kept passages."""
    note: str


@dataclass(frozen=True)
class QuestionCard:
    """One question, as the page shows it."""

    record: Mapping[str, Any]
    outcome: str
    draft_f1: str
    gold_answer: str
    gold_f1: str
    methods: list[MethodOnQuestion]


def choose_questions(
    records: Sequence[Mapping[str, Any]], method: str, k: str, total: int = 20
) -> list[tuple[str, Mapping[str, Any]]]:
    """Choose questions by the effect of pruning with one method at one k on their F1.

    The places are shared evenly among the three outcomes. If an outcome has too few questions, the other outcomes get
    its places. Within an outcome, the chosen questions are evenly spaced in the run's order. The same records give the
    same choice.

    Returns:
        The outcome (`helped`, `hurt` or `unchanged`) and the record of each question, outcome by outcome.

    Example:
        >>> def record(f1):
        ...     at = lambda k, value: {"at": {k: {"f1": value}}}
        ...     return {"methods": {"none": at("all", 0.5), "at2": at("3", f1)}}
        >>> records = [record(f1) for f1 in (0.5, 1.0, 0.0, 0.5)]
        >>> [outcome for outcome, _ in choose_questions(records, "at2", "3", total=3)]
        ['helped', 'hurt', 'unchanged']
    """
    groups: dict[str, list[Mapping[str, Any]]] = {outcome: [] for outcome in OUTCOMES}
    for record in records:
        before = record["methods"]["none"]["at"][ALL]["f1"]
        after = record["methods"][method]["at"][k]["f1"]
        groups["helped" if after > before else "hurt" if after < before else "unchanged"].append(record)
    sizes = dict.fromkeys(groups, 0)
    for _ in range(min(total, len(records))):
        open_ = [outcome for outcome in groups if sizes[outcome] < len(groups[outcome])]
        sizes[min(open_, key=sizes.__getitem__)] += 1
    return [(outcome, group[place]) for outcome, group in groups.items() for place in _even(len(group), sizes[outcome])]


def question_cards(
    chosen: Sequence[tuple[str, Mapping[str, Any]]], methods: Sequence[str], ks: Sequence[str]
) -> list[QuestionCard]:
    """Return a card for each chosen question. A card shows every method at every k."""
    made = []
    for outcome, record in chosen:
        gold = record["methods"].get("oracle", {}).get("at", {}).get(GOLD)
        made.append(
            QuestionCard(
                record=record,
                outcome=OUTCOMES[outcome],
                draft_f1=f"{record['methods']['none']['at'][ALL]['f1']:.2f}",
                gold_answer=gold["answer"] if gold else "",
                gold_f1=f"{gold['f1']:.2f}" if gold else "",
                methods=[_on_question(record, record["methods"][name], ks) for name in methods],
            )
        )
    return made


def _on_question(record: Mapping[str, Any], entry: Mapping[str, Any], ks: Sequence[str]) -> MethodOnQuestion:
    passages = len(record["passages"])
    scores = entry["scores"]
    order = ranking(scores) if scores else list(range(passages))
    ranks = {index: rank for rank, index in enumerate(order, start=1)}
    decimals = decimals_for(scores) if scores else 0
    return MethodOnQuestion(
        sources=[
            SourceScore(
                score=number(scores[index], decimals) if scores else "",
                rank=ranks[index],
                bar=Bar.of(scores[index], scores) if scores else None,
                kept=" ".join(
                    f"k{place}" for place, k in enumerate(ks) if k in entry["at"] and index in entry["at"][k]["kept"]
                ),
            )
            for index in range(passages)
        ],
        answers=[
            (entry["at"][k]["answer"], f"{entry['at'][k]['f1']:.2f}", count(len(entry["at"][k]["kept"]), "passage"))
            if k in entry["at"]
            else ("", "", "")
            for k in ks
        ],
        note="The draft was empty, so there was nothing to score: the first k passages were kept."
        if entry["fell_back"]
        else "",
    )


def _even(length: int, places: int) -> list[int]:
    """Return `places` evenly spaced indices below `length`."""
    return [(2 * place + 1) * length // (2 * places) for place in range(places)]
