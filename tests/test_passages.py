from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from at2_prune.datasets import Question
from at2_prune.errors import DataError, InputError, MissingExtraError
from at2_prune.passages import Passage, as_passages, passages_from_json, split_sentences


def test_every_accepted_kind_of_passage() -> None:
    given = Passage("three", id="x")
    passages = as_passages(["one", {"text": "two", "title": "T", "id": 7, "score": 0.5, "url": "u"}, given])
    assert passages == [Passage("one"), Passage("two", title="T", id="7", score=0.5), given]
    assert passages[1].metadata == {"url": "u"}
    assert passages[2] is given


def test_any_iterable_of_passages() -> None:
    expected = [Passage("a"), Passage("b")]
    assert as_passages(("a", "b")) == expected
    assert as_passages(text for text in "ab") == expected
    assert as_passages([]) == []


@pytest.mark.parametrize("passages", ["one text", b"bytes", {"text": "one"}, None, 5, Passage("one")])
def test_a_single_thing_is_not_a_list(passages: Any) -> None:
    with pytest.raises(InputError, match=f"must be a list of passages, got one {type(passages).__name__}"):
        as_passages(passages)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (5, r"passage 1 must be a string or an object with a 'text'.*got 5"),
        (None, "passage 1 must be"),
        (["a"], "passage 1 must be"),
        ({"title": "T"}, "passage 1 must be"),
        ({"text": None}, "passage 1: a passage's text must be a string, got NoneType"),
        ({"text": ["a"]}, "passage 1: a passage's text must be a string, got list"),
        ({"text": "a", "title": 3}, "passage 1: a passage's title must be a string, got int: 3"),
        ({"text": "a", "score": "high"}, "passage 1: score must be a number, got 'high'"),
        ({"text": "a", "score": True}, "passage 1: score must be a number, got True"),
    ],
)
def test_a_bad_entry_is_named_by_its_index(bad: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_passages(["fine", bad])


@pytest.mark.parametrize(
    ("key", "meant"),
    [("titel", "title"), ("Title", "title"), ("tittle", "title"), ("titl", "title"), ("scor", "score"), ("ID", "id")],
)
def test_a_misspelt_key_is_not_ignored(key: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"passage 1: unknown key {key!r}, did you mean {meant!r}"):
        as_passages(["fine", {"text": "a", key: 1}])
    right = {"title": "t", "score": 1.0, "id": 2}
    assert as_passages([{"text": "a", **right, key: 1}])[0].metadata == {key: 1}


@pytest.mark.parametrize(
    "key", ["source", "store", "scope", "_id", "ids", "idx", "url", "subtitle", "context", "test", "content", 3]
)
def test_other_keys_are_metadata(key: Any) -> None:
    assert as_passages([{"text": "a", key: 1}])[0].metadata == {key: 1}


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    passage = Passage("a\ud83c. b\udfb7", title="\ud83ct", sentences=("a\ud83c. ", "b\udfb7"))
    assert passage == Passage("a\ufffd. b\ufffd", title="\ufffdt", sentences=("a\ufffd. ", "b\ufffd"))
    whole = "\N{SAXOPHONE} \N{MUSICAL SYMBOL G CLEF}"
    assert Passage(whole).text is whole


def test_a_huge_bad_value_does_not_flood_the_message() -> None:
    with pytest.raises(InputError) as caught:
        as_passages([{"title": "x" * 100_000}])
    assert len(str(caught.value)) < 300


def test_json_errors_name_the_file() -> None:
    assert passages_from_json(["a", {"text": "b"}], "p.json") == [Passage("a"), Passage("b")]
    with pytest.raises(DataError, match=r"p\.json: expected a JSON list.*got dict"):
        passages_from_json({"text": "a"}, "p.json")
    with pytest.raises(DataError, match=r"p\.json: passage 0 must be"):
        passages_from_json([[]], "p.json")


def test_a_passage_cannot_be_changed() -> None:
    passage: Any = Passage("a")
    with pytest.raises(FrozenInstanceError):
        passage.text = "b"
    assert len({Passage("a", metadata={"k": []}), Passage("a")}) == 1


def test_sentences_must_join_to_the_text() -> None:
    assert split_sentences(Passage("A. B.", sentences=("A.", " B."))) == ("A.", " B.")
    with pytest.raises(InputError, match="do not join to the passage's text"):
        Passage("A. B.", sentences=("A.", "B."))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Dr. Li paid $3.5 million. She left.  Nobody saw e.g. Mr. Jones.", 3),
        ("", 0),
        ("\n\n", 1),
        ("no full stop", 1),
        ("One.\nTwo.\r\nThree.", 3),
        ("One.\n\nTwo.\n\n \nThree.\n\n", 3),
        ("\n\nOne.", 1),
    ],
)
def test_split_sentences_keep_every_character(text: str, count: int) -> None:
    sentences = split_sentences(Passage(text))
    assert "".join(sentences) == text
    assert len(sentences) == count


@pytest.mark.parametrize(
    "text", ["\x00\x01\x07", "これは文です。次の文。", "नमस्ते। फिर मिलेंगे।", "🏳️‍🌈 e\u0301. \u2028 \u200b"]
)
def test_split_sentences_of_strange_text(text: str) -> None:
    assert "".join(split_sentences(Passage(text))) == text


def test_split_sentences_of_the_sample_questions(sample_questions: list[Question]) -> None:
    for question in sample_questions:
        for passage in question.passages:
            assert "".join(split_sentences(Passage(passage.text))) == passage.text


def test_missing_sentence_splitter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)
    assert split_sentences(Passage("A. B.", sentences=("A. ", "B."))) == ("A. ", "B.")
    with pytest.raises(MissingExtraError, match=r'needs sentencex.*pip install "at2-prune\[sentences\]"'):
        split_sentences(Passage("A. B."))
