"""Filtering, shuffling, limits and leaving rows out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from at2_prune.datasets import Question, Selection, load_questions, sample_questions_path
from at2_prune.datasets.selection import SelectionOptions
from at2_prune.errors import DataError, InputError
from at2_prune.passages import Passage

from .rows import HUB, MUSIQUE, PLAIN, TWO_WIKI, lines, load


def test_limit_and_seed(tmp_path: Path) -> None:
    text = lines(*({**PLAIN, "id": str(i)} for i in range(30)))
    everything = [question.id for question in load(tmp_path, text)]
    assert everything == [str(i) for i in range(30)]
    assert [question.id for question in load(tmp_path, text, limit=4)] == everything[:4]
    assert len(load(tmp_path, text, limit=99)) == 30
    shuffled = [question.id for question in load(tmp_path, text, seed=1)]
    assert shuffled != everything
    assert sorted(shuffled, key=int) == everything
    assert [question.id for question in load(tmp_path, text, seed=1, limit=7)] == shuffled[:7]
    assert [question.id for question in load(tmp_path, text, seed=2)] != shuffled
    for limit in (0, -1):
        with pytest.raises(InputError, match=f"limit must be at least 1, got {limit}"):
            load(tmp_path, text, limit=limit)


def test_kinds(tmp_path: Path) -> None:
    kinds = ["bridge", "comparison", "bridge", "compositional"]
    text = lines(*({**HUB, "id": str(i), "type": kind} for i, kind in enumerate(kinds)), MUSIQUE, PLAIN)

    def ids(**options: Any) -> list[str]:
        return [question.id for question in load(tmp_path, text, **options)]

    assert ids(kinds=["bridge"]) == ["0", "2"]
    assert ids(kinds=["comparison"], limit=1) == ["1"]
    assert ids(kinds=("comparison", "3hop1")) == ["1", MUSIQUE["id"]]
    assert ids(kinds=None) == ids(kinds=[]) == ["0", "1", "2", "3", MUSIQUE["id"], "q.jsonl, line 6"]
    there = r"the types are 3hop1 \(1\), bridge \(2\), comparison \(1\), compositional \(1\)"
    for wanted in (["brigde"], ["bridge", "brigde"]):
        with pytest.raises(InputError, match=rf"q\.jsonl: no question has the type 'brigde'; {there}"):
            ids(kinds=wanted)
    with pytest.raises(InputError, match=r"no question has the type 'bridge'; the data set gives no types$"):
        load(tmp_path, lines(PLAIN), kinds=["bridge"])


def test_files_of_ids_and_questions_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("\ufeff1\n", encoding="utf-8")
    text = lines({**PLAIN, "id": "0"}, {**PLAIN, "id": "1"})
    for begin in ("", "\ufeff"):
        assert [question.id for question in load(tmp_path, begin + text, ids=file)] == ["1"]


def test_ids_may_hold_spaces(tmp_path: Path) -> None:
    """Those that rows without one get do; they are one a line."""
    file = tmp_path / "ids.txt"
    file.write_text("q.jsonl, line 2\n\n  q.jsonl, line 1  \n")
    assert [question.id for question in load(tmp_path, lines(PLAIN, PLAIN), ids=file)] == [
        "q.jsonl, line 2",
        "q.jsonl, line 1",
    ]


def test_shuffled_passages_keep_their_gold(tmp_path: Path) -> None:
    text = lines(*({**MUSIQUE, "id": str(i)} for i in range(20)))
    plain, shuffled = load(tmp_path, text), load(tmp_path, text, shuffle_passages=3)
    assert [question.id for question in shuffled] == [question.id for question in plain]
    for before, after in zip(plain, shuffled, strict=True):
        assert Counter(after.passages) == Counter(before.passages)
        assert {after.passages[i] for i in after.gold} == {before.passages[i] for i in before.gold}
        assert list(after.gold) == sorted(after.gold)
    orders = [tuple(passage.id for passage in question.passages) for question in shuffled]
    assert len(set(orders)) > 10  # every question has its own order
    assert load(tmp_path, text, shuffle_passages=3) == shuffled
    assert load(tmp_path, text, shuffle_passages=4) != shuffled
    some = load(tmp_path, text, shuffle_passages=3, seed=1, limit=5)  # the order depends on nothing else
    assert all(question in shuffled for question in some)
    assert some != shuffled[:5]


def test_shuffling_puts_every_passage_everywhere() -> None:
    question = Question("q", "Who?", tuple(map(Passage, "abcd")), gold=(0,))
    places = Counter(question.shuffled(seed).gold[0] for seed in range(400))
    assert all(60 < places[place] < 140 for place in range(4))  # 100 +- 4.6 standard deviations
    assert Question("q", "Who?", ()).shuffled(0) == Question("q", "Who?", ())


def test_rows_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path) -> None:
    good = {**HUB, "id": "good"}
    text = (
        lines(good, {**HUB, "answer": 3}, {**HUB, "answer": {}}, {**HUB, "question": None})
        + "{not json\n{neither: \n"
        + lines({**MUSIQUE, "answerable": False}, {**TWO_WIKI, "supporting_facts": []}, [], {**good, "id": "also"})
    )
    skipped: Counter[str] = Counter()
    questions = load(tmp_path, text, require=("answer", "gold"), skipped=skipped, limit=1)
    assert [question.id for question in questions] == ["good"]
    assert skipped == {
        "field 'answer' must be a string": 2,
        "field 'question' must be a string": 1,
        "not valid JSON": 2,
        "field 'answer' is missing or empty, or field 'answerable' is false": 1,
        "field 'supporting_facts' is missing or empty, so there are no gold passages": 1,
        "expected a JSON object": 1,
    }
    assert len(load(tmp_path, text, require=("answer", "gold"), skipped=Counter())) == 2
    assert len(load(tmp_path, text, skipped=Counter())) == 4  # two of them are bad only if gold is required
    with pytest.raises(DataError, match=r"q\.jsonl, line 2: field 'answer' must be a string, got 3"):
        load(tmp_path, text)


def test_musique_full_has_each_question_twice_and_one_can_be_answered(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    text = lines(MUSIQUE, {**MUSIQUE, "answerable": False})
    questions = load(tmp_path, text, require=("answer", "gold"), skipped=skipped)
    assert [(question.id, question.answer) for question in questions] == [(MUSIQUE["id"], "Vell")]
    assert skipped.total() == 1


def test_a_file_of_nothing_but_bad_rows_says_why(tmp_path: Path) -> None:
    text = lines({**HUB, "answer": 3}, {**HUB, "answer": 4})
    with pytest.raises(DataError, match="holds no question; 2 rows were left out: field 'answer' must be a string"):
        load(tmp_path, text, skipped=Counter())


def test_a_file_that_is_no_json_list_is_not_skipped_over(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: not valid JSON"):
        load(tmp_path, json.dumps([PLAIN, PLAIN])[:-1], skipped=Counter())


def test_unknown_requirement(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"require can hold only answer and gold, got \['golden'\]"):
        load(tmp_path, lines(PLAIN), require=("golden",))


def test_unknown_options_are_refused_and_the_known_ones_listed() -> None:
    allowed = "split, require, skipped, ids, limit, offset, seed, kinds, shuffle_passages"
    with pytest.raises(TypeError, match=rf"load_questions\(\) does not take 'kind', 'n'\. Its options are {allowed}$"):
        load_questions("no_such_file.jsonl", kind=["bridge"], n=3, limit=1)  # type: ignore[call-arg]


def test_options_are_the_fields_of_selection() -> None:
    assert get_type_hints(Selection) == get_type_hints(SelectionOptions)


def test_shipped_questions_can_be_answered_from_their_passages() -> None:
    questions = load_questions(sample_questions_path(), require=("answer", "gold"))
    assert len({question.id for question in questions}) == 12
    for question in questions:
        assert len(question.passages) == 10
        assert len(question.gold) == 2
        assert question.kind in ("bridge", "comparison")
        gold = " ".join(question.passages[i].text + str(question.passages[i].title) for i in question.gold)
        assert question.answer in ("yes", "no") or (question.answer is not None and question.answer in gold)
        assert len({passage.title for passage in question.passages}) == 10


@pytest.mark.parametrize("name", ["validation.jsonl", "train.jsonl"])
def test_real_files(hotpotqa: Path, tmp_path: Path, name: str) -> None:
    path = hotpotqa / name
    raw = [json.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]
    questions = load_questions(path, require=("answer", "gold"))
    assert [question.id for question in questions] == [str(row["id"]) for row in raw]
    for question, row in zip(questions, raw, strict=True):
        assert question.text == row["question"]
        assert question.answer == row["answer"]
        assert question.kind == row["type"]
        assert [passage.title for passage in question.passages] == row["context"]["title"]
        assert [passage.text for passage in question.passages] == ["".join(s) for s in row["context"]["sentences"]]
        assert {question.passages[i].title for i in question.gold} == set(row["supporting_facts"]["title"])
    official = [
        {
            "_id": row["id"],
            **{key: row[key] for key in ("question", "answer", "type")},
            "context": list(map(list, zip(row["context"]["title"], row["context"]["sentences"], strict=True))),
            "supporting_facts": list(map(list, zip(*row["supporting_facts"].values(), strict=True))),
        }
        for row in raw
    ]
    assert load(tmp_path, json.dumps(official), "official.json") == questions


def test_ids_from_a_file(tmp_path: Path) -> None:
    text = lines(*({**PLAIN, "id": str(i)} for i in range(6)))
    wanted = tmp_path / "ids.txt"
    wanted.write_text("4\n1\n\n5\n")
    assert [question.id for question in load(tmp_path, text, ids=wanted)] == ["4", "1", "5"]
    assert [question.id for question in load(tmp_path, text, ids=wanted, offset=1, limit=1)] == ["1"]
    wanted.write_bytes(b"\xef\xbb\xbf4\r\n1\r\n")  # as some editors save it
    assert [question.id for question in load(tmp_path, text, ids=wanted)] == ["4", "1"]
    wanted.write_bytes(b"\xff\xfe4\x00")
    with pytest.raises(DataError, match=r"ids\.txt: cannot be read .*save it as UTF-8"):
        load(tmp_path, text, ids=wanted)
    wanted.write_text("4\n7\n8\n")
    with pytest.raises(InputError, match=r"2 of the 3 ids in .*ids\.txt are not in the data, for example '7'$"):
        load(tmp_path, text, ids=wanted)
    wanted.write_text("\n")
    with pytest.raises(InputError, match=r"ids\.txt: holds no ids; write one id on each line$"):
        load(tmp_path, text, ids=wanted)
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        load(tmp_path, text, ids=tmp_path / "none.txt")
