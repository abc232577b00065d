"""Every shape of row, and what is said of a row that has none."""

from __future__ import annotations

from typing import Any

import pytest

from at2_prune.datasets import parse_question
from at2_prune.errors import DataError
from at2_prune.passages import Passage

from .rows import DOLLY, HUB, MUSIQUE, OFFICIAL, PLAIN, TWO_WIKI, lines, load


def context(*passages: tuple[str, list[str]]) -> dict[str, Any]:
    return {"context": [list(passage) for passage in passages]}


def test_hub_and_official_shapes_are_the_same_question() -> None:
    question = parse_question(HUB, "here")
    assert question == parse_question(OFFICIAL, "here")
    assert (question.id, question.text, question.answer) == ("q1", "Who?", "Ann")
    assert (question.gold, question.kind, question.aliases) == ((1,), "bridge", ())
    assert question.passages[1] == Passage("Three. Four.", title="B", id="1", sentences=("Three.", " Four."))


def test_hotpot_without_answer_and_facts() -> None:
    question = parse_question({key: HUB[key] for key in ("question", "context")}, "q.jsonl, line 4")
    assert (question.id, question.answer, question.gold, question.kind) == ("q.jsonl, line 4", None, (), None)


@pytest.mark.parametrize(
    ("facts", "gold"),
    [
        ([["Twice", 0]], (0, 2)),  # the fact holds for both, and no one can tell which was meant
        ([["Twice", 1]], (2,)),  # only one of the two has a second sentence
        ([["Twice", 0], ["Twice", 1]], (0, 2)),
        ([["Once", 0]], (1,)),
        ([["Once", 7]], (1,)),  # no passage has the sentence: a wart of the data
        ([["Twice", 7]], (0, 2)),
        ([["once", 0]], (1,)),  # as 2WikiMultihopQA's script compares titles
        ([["ONCE", 0], ["Lower", 0]], (1, 3)),
        ([["lower", 0]], (4,)),  # the very title comes first
        ([], ()),
    ],
)
def test_a_passage_that_holds_a_supporting_fact_is_gold(facts: list[Any], gold: tuple[int, ...]) -> None:
    passages = context(
        ("Twice", ["a."]), ("Once", ["b."]), ("Twice", ["c.", " d."]), ("Lower", ["e."]), ("lower", ["f."])
    )
    assert parse_question({**OFFICIAL, **passages, "supporting_facts": facts}, "here").gold == gold


def test_two_wiki() -> None:
    question = parse_question(TWO_WIKI, "here", ("answer", "gold"))
    assert (question.id, question.answer, question.kind) == (TWO_WIKI["_id"], "Una Oake", "compositional")
    assert question.gold == (0, 2)
    assert question.passages[0].text == "Low Tide is a film. It was directed by Ann Oake."
    assert question.passages[1].sentences == ("High Tide is a film.", " It was directed by Bo Elm.", " It is long.")
    assert question.passages[2].sentences == ("Ann Oake is the daughter of Una Oake.",)


def test_a_missing_space_between_hotpot_sentences_stays_missing() -> None:
    sentences = ['It is called "Go!', '" in Canada.', " It ran twice."]
    question = parse_question({**OFFICIAL, **context(("A", ["x"]), ("B", sentences))}, "here")
    assert question.passages[1].text == 'It is called "Go!" in Canada. It ran twice.'


def test_musique() -> None:
    question = parse_question(MUSIQUE, "here", ("answer", "gold"))
    assert (question.id, question.text, question.kind) == (MUSIQUE["id"], MUSIQUE["question"], "3hop1")
    assert (question.answer, question.aliases) == ("Vell", ("the Vell", "River Vell"))
    assert question.gold == (0, 2, 4)  # the other passage with the title Dorn is not gold
    assert question.passages[4] == Passage("Dorn lies on the Vell.", title="Dorn", id="4")


def test_musique_unanswerable_and_test_split() -> None:
    unanswerable = parse_question({**MUSIQUE, "answerable": False}, "here")
    assert (unanswerable.answer, unanswerable.aliases, unanswerable.gold) == (None, (), ())
    hidden = [{k: v for k, v in p.items() if k != "is_supporting"} for p in MUSIQUE["paragraphs"]]
    test = {"id": "2hop__1_2", "question": "Who?", "paragraphs": hidden}
    question = parse_question(test, "here")
    assert (question.answer, question.gold, question.kind, len(question.passages)) == (None, (), "2hop", 5)
    assert parse_question({**test, "id": "other"}, "here").kind is None


def test_plain_shape() -> None:
    question = parse_question({**PLAIN, "aliases": ["Anna"], "type": "easy"}, "here")
    assert question.passages == (Passage("one"), Passage("two", title="T"))
    assert (question.answer, question.gold, question.aliases, question.kind) == ("Ann", (1,), ("Anna",), "easy")
    bare = parse_question({"question": "Who?", "passages": []}, "here")
    assert (bare.passages, bare.answer, bare.gold, bare.aliases, bare.kind) == ((), None, (), (), None)


def test_dolly_shape() -> None:
    question = parse_question(DOLLY, "here")
    assert (question.text, question.passages, question.answer) == ("Who?", (Passage("Ann did."),), "Ann")


@pytest.mark.parametrize("row", [PLAIN, DOLLY, MUSIQUE, HUB])
def test_a_question_without_id_is_called_by_where_it_stands_whatever_folder_it_is_read_from(row: Any) -> None:
    without = {key: value for key, value in row.items() if key != "id"}
    for missing in (without, {**without, "id": None}):
        assert parse_question(missing, "/data/here/q.jsonl, line 4").id == "q.jsonl, line 4"
    assert parse_question({**without, "id": 0}, "q.jsonl, line 4").id == "0"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([], "expected a JSON object, got list"),
        ({"a": 1}, r"a row needs question and passages; .*\(MuSiQue\); .*; the row has the fields \['a'\]"),
        ({"question": "Q?"}, "field 'context', 'paragraphs' or 'passages' is missing; the row has the fields"),
        ({"question": "Q?", "supporting_facts": []}, "field 'context' is missing"),
        ({key: value for key, value in MUSIQUE.items() if key != "question"}, "field 'question' is missing"),
        ({**HUB, "question": None}, "field 'question' must be a string, got None"),
        ({**HUB, "answer": 3}, "field 'answer' must be a string, got 3"),
        ({**HUB, "type": 3}, "field 'type' must be a string, got 3"),
        ({**HUB, "context": "text"}, "field 'context' must hold titles"),
        ({**HUB, "context": None}, "field 'context' must hold titles"),
        ({**HUB, "context": {"title": ["A"]}}, "field 'context' must hold titles"),
        ({**HUB, "context": {"title": ["A", "B"], "sentences": [["One."]]}}, "field 'context' must hold titles"),
        ({**HUB, "context": [["B", "A text, not a list of sentences."]]}, "field 'context' must hold titles"),
        ({**HUB, "context": [["B", [1]]]}, "field 'context' must hold titles"),
        ({**HUB, "context": [["B", [1, 2]]]}, "field 'context' must hold titles"),
        ({**HUB, "context": [["B", ["One.", 2]]]}, "field 'context' must hold titles"),
        ({**HUB, "context": [[7, ["One."]]]}, "field 'context' must hold titles"),
        ({**HUB, "supporting_facts": 5}, "field 'supporting_facts' must hold titles"),
        ({**HUB, "supporting_facts": {"sent_id": [0]}}, "field 'supporting_facts' must hold titles"),
        ({**HUB, "supporting_facts": [["B", "0"]]}, "field 'supporting_facts' must hold titles"),
        ({**HUB, "supporting_facts": [[1, 0]]}, "field 'supporting_facts' must hold titles"),
        (
            {**HUB, "supporting_facts": [["D", 0], ["B", 0], ["C", 0]]},
            r"field 'supporting_facts' names titles that are not in field 'context': \['C', 'D'\]",
        ),
        ({**PLAIN, "passages": "one"}, "field 'passages' must be a list"),
        ({**PLAIN, "passages": [5]}, "passage 0 must be a string"),
        ({**PLAIN, "answer": ["a"]}, "field 'answer' must be a string"),
        ({**PLAIN, "aliases": "a"}, "field 'aliases' must be a list of strings, got 'a'"),
        ({**PLAIN, "gold": [2]}, "field 'gold' must be a list of passage indices below 2"),
        ({**PLAIN, "gold": [-1]}, "field 'gold' must be"),
        ({**PLAIN, "gold": [True]}, "field 'gold' must be"),
        ({**PLAIN, "gold": 1}, "field 'gold' must be"),
        ({**DOLLY, "context": None}, "field 'context' must be a string"),
        ({**MUSIQUE, "paragraphs": {}}, "field 'paragraphs' must be a list"),
        ({**MUSIQUE, "paragraphs": ["a"]}, r"field 'paragraphs' must hold objects .*paragraph 0"),
        ({**MUSIQUE, "paragraphs": [MUSIQUE["paragraphs"][0], {"title": "T"}]}, r"paragraph 1: 'paragraph_text'"),
        (
            {**MUSIQUE, "paragraphs": [{"title": 3, "paragraph_text": "t"}]},
            "paragraph 0: a passage's title must be a string",
        ),
        (
            {**MUSIQUE, "paragraphs": [{"title": "T", "paragraph_text": "t", "is_supporting": "true"}]},
            "is_supporting must be true or false, got 'true'",
        ),
        ({**MUSIQUE, "answer_aliases": [1]}, "field 'answer_aliases' must be a list of strings"),
        ({**MUSIQUE, "answerable": "no"}, "field 'answerable' must be true or false, got 'no'"),
        ({**MUSIQUE, "answer": 1868}, "field 'answer' must be a string, got 1868"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Any, row: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        load(tmp_path, lines(PLAIN) + "\n" + lines(row))
    assert str(caught.value).startswith(f"{tmp_path / 'q.jsonl'}, line 3: ")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({**HUB, "answer": None}, "'answer' is missing or empty"),
        ({**TWO_WIKI, "answer": " "}, "'answer' is missing or empty"),
        ({**HUB, "supporting_facts": None}, "'supporting_facts' is missing or empty"),
        ({**TWO_WIKI, "supporting_facts": []}, "'supporting_facts' is missing or empty"),
        ({**MUSIQUE, "answerable": False}, "'answerable' is false"),
        (
            {**MUSIQUE, "paragraphs": MUSIQUE["paragraphs"][1:2]},
            "no entry of field 'paragraphs' has is_supporting",
        ),
        ({**PLAIN, "gold": []}, "'gold' is missing or empty"),
        ({**DOLLY}, "'instruction' has only one context, so it names no gold passages"),
        ({**DOLLY, "response": ""}, "'response' is empty"),
    ],
)
def test_a_required_field_that_is_missing_is_named(tmp_path: Any, row: Any, field: str) -> None:
    text = lines(HUB, row)
    assert len(load(tmp_path, text)) == 2
    with pytest.raises(DataError, match=field) as caught:
        load(tmp_path, text, require=("answer", "gold"))
    assert str(caught.value).startswith(f"{tmp_path / 'q.jsonl'}, line 2: ")
