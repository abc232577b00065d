"""The calibration questions that come with the package: their form, and that no text comes from a data set."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from at2_prune.datasets import Question, calibration_questions_path, load_questions

KINDS = {"single": 30, "bridge": 65, "compositional": 18, "comparison": 36, "support": 9}
"""The least number of questions of each kind."""
SHARED = 8
"""So many words in a row count as copied text."""


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return load_questions(calibration_questions_path(), require=("answer", "gold"))


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("AT2_PRUNE_DATA")
    if not folder:
        pytest.skip("set AT2_PRUNE_DATA to a folder with */*.jsonl to compare the text with data sets")
    if not list(Path(folder).glob("*/*.jsonl")):
        pytest.skip(f"AT2_PRUNE_DATA is {folder}, where */*.jsonl is missing: set it to a folder with these files")
    return Path(folder)


def evidence(question: Question) -> list[str]:
    return [f"{question.passages[i].title}. {question.passages[i].text}" for i in question.gold]


def test_count_and_kinds(questions: list[Question]) -> None:
    assert len(questions) == 170
    assert len({question.id for question in questions}) == 170
    assert len({question.text.lower() for question in questions}) == 170
    counts = Counter(question.kind for question in questions)
    assert set(counts) == set(KINDS)
    assert all(counts[kind] >= least for kind, least in KINDS.items()), counts


def test_passages(questions: list[Question]) -> None:
    texts = set()
    for question in questions:
        assert len({passage.text for passage in question.passages}) == 10, question.id
        assert 1 <= len(question.gold) <= 4, question.id
        texts.update(passage.text for passage in question.passages)
        assert all(passage.title for passage in question.passages), question.id
    lengths = [len(text.split()) for text in texts]
    assert len(texts) >= 550
    assert min(lengths) >= 40
    assert max(lengths) <= 130
    assert 70 <= sum(lengths) / len(lengths) <= 90


def test_more_evidence_than_one_passage_where_the_kind_needs_it(questions: list[Question]) -> None:
    sizes = {"single": {1}, "support": {1}, "bridge": {2}, "comparison": {2}, "compositional": {3, 4}}
    for question in questions:
        assert len(question.gold) in sizes[question.kind or ""], question.id


def test_evidence_holds_the_answer(questions: list[Question]) -> None:
    for question in questions:
        assert question.answer
        if question.kind != "comparison":
            assert any(question.answer.lower() in text.lower() for text in evidence(question)), question.id


def test_answers_of_comparisons(questions: list[Question]) -> None:
    answers = Counter(question.answer for question in questions if question.kind == "comparison")
    assert min(answers["yes"], answers["no"]) >= 3
    assert abs(answers["yes"] - answers["no"]) <= 2


def test_evidence_is_at_every_position(questions: list[Question]) -> None:
    positions = Counter(position for question in questions for position in question.gold)
    assert set(positions) == set(range(10))
    assert max(positions.values()) <= 0.16 * positions.total()


def test_length_does_not_betray_evidence(questions: list[Question]) -> None:
    longest = [max(range(10), key=lambda i: len(question.passages[i].text)) in question.gold for question in questions]
    expected = sum(len(question.gold) for question in questions) / 10
    assert abs(sum(longest) - expected) <= 12


def word_runs(text: str) -> Iterator[tuple[str, ...]]:
    """Yield every run of SHARED words of a text, in lower case and without punctuation."""
    words = re.findall(r"\w+", text.lower())
    return zip(*(words[start:] for start in range(SHARED)), strict=False)


def strings(value: Any) -> Iterator[str]:
    """Yield the strings in a JSON value. A list of strings is also yielded as one text, because it holds sentences."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        if value and all(isinstance(part, str) for part in value):
            yield " ".join(value)
        else:
            for part in value:
                yield from strings(part)


def test_no_text_of_a_data_set(questions: list[Question], data: Path) -> None:
    texts = {text for question in questions for text in (question.text, *(p.text for p in question.passages))}
    own = {run for text in texts for run in word_runs(text)}
    for path in sorted(data.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            shared = {" ".join(run) for text in strings(row) for run in word_runs(text) if run in own}
            assert not shared, f"{path.name}, question {row.get('id')}, has {sorted(shared)[:3]}"
