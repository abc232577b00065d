"""Questions that are made of a user's own texts."""

from __future__ import annotations

import pytest

from at2_prune.calibration import pseudo_questions
from at2_prune.calibration.pseudo_questions import CHARACTERS
from at2_prune.datasets import calibration_questions_path, load_questions
from at2_prune.errors import DataError
from at2_prune.passages import Passage


@pytest.fixture(scope="module")
def corpus() -> list[Passage]:
    return [passage for question in load_questions(calibration_questions_path()) for passage in question.passages]


def test_every_question_has_ten_passages_and_its_evidence(corpus: list[Passage]) -> None:
    questions = pseudo_questions(corpus, 60)
    assert len(questions) == 60
    assert len({question.id for question in questions}) == 60
    for question in questions:
        assert len(question.passages) == len({p.text for p in question.passages}) == 10
        assert len(question.gold) in (1, 2)
        words = question.text.lower().split()
        evidence = " ".join(f"{question.passages[g].title} {question.passages[g].text}".lower() for g in question.gold)
        if len(question.gold) == 2:  # the words of the question are in its two passages
            assert all(word in evidence for word in words)
    assert {len(question.gold) for question in questions} == {1, 2}


def test_the_sentence_of_a_question_is_not_in_its_passage(corpus: list[Passage]) -> None:
    known = {passage.title: passage.text for passage in corpus}
    single = [question for question in pseudo_questions(corpus, 60) if len(question.gold) == 1]
    assert single
    for question in single:
        evidence = question.passages[question.gold[0]]
        assert len(evidence.text) < len(known[evidence.title])


def test_the_same_seed_makes_the_same_questions(corpus: list[Passage]) -> None:
    assert pseudo_questions(corpus, 10, seed=1) == pseudo_questions(corpus, 10, seed=1)
    assert pseudo_questions(corpus, 10, seed=1) != pseudo_questions(corpus, 10, seed=2)


def test_texts_without_titles_and_in_other_languages_work() -> None:
    texts = [
        Passage(f"Die Brücke Nummer {i} führt über den Fluss {'ABCDEFGH'[i % 8]}. Sie wurde im Jahr {1800 + i} gebaut.")
        for i in range(25)
    ]
    assert len(pseudo_questions(texts, 20)) == 20
    chinese = [Passage(f"第{i}座桥跨越河流。它建于{1800 + i}年。那里住着{i}个人。") for i in range(25)]
    assert len(pseudo_questions(chinese, 20)) == 20


def test_a_long_text_is_cut() -> None:
    text = " ".join(f"The river number {i} flows through the town of number {i * 7}." for i in range(160_000))
    assert len(text) > 9_000_000
    questions = pseudo_questions([Passage(text, title="Rivers")], 10)
    assert len(questions) == 10
    assert max(len(p.text) for question in questions for p in question.passages) <= CHARACTERS


def test_a_small_corpus_is_refused() -> None:
    with pytest.raises(DataError, match="1 different passages with text, but at least 20 are needed"):
        pseudo_questions([Passage("A text.")] * 30)
