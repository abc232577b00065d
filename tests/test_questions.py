from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from at2_prune.errors import DataError, InputError, MissingExtraError
from at2_prune.passages import Passage
from at2_prune.questions import load_questions, parse_question, sample_questions_path

HUB = {
    "id": "q1",
    "question": "Who?",
    "answer": "Ann",
    "type": "bridge",
    "supporting_facts": {"title": ["B", "B"], "sent_id": [0, 1]},
    "context": {"title": ["A", "B"], "sentences": [["One.", " Two."], ["Three.", " Four."]]},
}
OFFICIAL = {
    "_id": "q1",
    "question": "Who?",
    "answer": "Ann",
    "type": "bridge",
    "supporting_facts": [["B", 0], ["B", 1]],
    "context": [["A", ["One.", " Two."]], ["B", ["Three.", " Four."]]],
}
GENERIC = {"question": "Who?", "passages": ["one", {"title": "T", "text": "two"}], "answer": "Ann", "gold": [1]}
DOLLY = {"instruction": "Who?", "context": "Ann did.", "response": "Ann", "category": "closed_qa"}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def load(folder: Path, text: str | bytes, name: str = "q.jsonl", **options: Any) -> list[Any]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_questions(path, **options)


def test_hub_and_official_shapes_are_the_same_question() -> None:
    question = parse_question(HUB, "here")
    assert question == parse_question(OFFICIAL, "here")
    assert (question.id, question.text, question.answer, question.gold, question.kind) == (
        "q1",
        "Who?",
        "Ann",
        (1,),
        "bridge",
    )
    assert question.passages[1] == Passage("Three. Four.", title="B", id="1", sentences=("Three.", " Four."))


def test_hotpot_without_answer_and_facts() -> None:
    question = parse_question({key: HUB[key] for key in ("question", "context")}, "q.jsonl, line 4")
    assert (question.id, question.answer, question.gold, question.kind) == ("q.jsonl, line 4", None, (), None)


def test_generic_shape() -> None:
    question = parse_question(GENERIC, "here")
    assert question.passages == (Passage("one"), Passage("two", title="T"))
    assert (question.answer, question.gold) == ("Ann", (1,))
    bare = parse_question({"question": "Who?", "passages": []}, "here")
    assert (bare.passages, bare.answer, bare.gold) == ((), None, ())


def test_dolly_shape() -> None:
    question = parse_question(DOLLY, "here")
    assert (question.text, question.passages, question.answer) == ("Who?", (Passage("Ann did."),), "Ann")


@pytest.mark.parametrize("row", [GENERIC, DOLLY, {key: HUB[key] for key in HUB if key != "id"}])
def test_a_question_without_id_is_called_by_where_it_stands_whatever_folder_it_is_read_from(row: Any) -> None:
    for missing in (row, {**row, "id": None}):
        assert parse_question(missing, "/data/here/q.jsonl, line 4").id == "q.jsonl, line 4"
    assert parse_question({**row, "id": 0}, "q.jsonl, line 4").id == "0"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([], "expected a JSON object, got list"),
        ({"a": 1}, r"has fields \['a'\], but needs question and passages"),
        ({**HUB, "question": None}, "field 'question' must be a string, got None"),
        ({**HUB, "answer": 3}, "field 'answer' must be a string, got 3"),
        ({**HUB, "context": "text"}, "field 'context' must hold titles"),
        ({**HUB, "context": None}, "field 'context' must hold titles"),
        ({**HUB, "context": {"title": ["A"]}}, "field 'context' must hold titles"),
        ({**HUB, "context": {"title": ["A", "B"], "sentences": [["One."]]}}, "field 'context' must hold titles"),
        ({**HUB, "context": [["B", "A text, not a list of sentences."]]}, "field 'context' must hold titles"),
        ({**HUB, "context": [["B", [1]]]}, "field 'context' must hold titles"),
        ({**HUB, "context": [[7, ["One."]]]}, "field 'context' must hold titles"),
        ({**HUB, "supporting_facts": 5}, "field 'supporting_facts' must hold titles"),
        ({**HUB, "supporting_facts": {"sent_id": [0]}}, "field 'supporting_facts' must hold titles"),
        (
            {**HUB, "supporting_facts": [["B", 0], ["C", 0], [1, 0]]},
            r"titles that are not in its context: \['1', 'C'\]",
        ),
        ({**GENERIC, "passages": "one"}, "field 'passages' must be a list"),
        ({**GENERIC, "passages": [5]}, "passage 0 must be a string"),
        ({**GENERIC, "answer": ["a"]}, "field 'answer' must be a string"),
        ({**GENERIC, "gold": [2]}, "field 'gold' must be a list of passage indices below 2"),
        ({**GENERIC, "gold": [-1]}, "field 'gold' must be"),
        ({**GENERIC, "gold": [True]}, "field 'gold' must be"),
        ({**GENERIC, "gold": 1}, "field 'gold' must be"),
        ({**DOLLY, "context": None}, "field 'context' must be a string"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, row: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        load(tmp_path, lines(GENERIC) + "\n" + lines(row))
    assert str(caught.value).startswith(f"{tmp_path / 'q.jsonl'}, line 3: ")


def test_json_list_errors_name_the_entry(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.json, entry 1: field 'question'"):
        load(tmp_path, json.dumps([GENERIC, {**GENERIC, "question": 1}]), "q.json")
    with pytest.raises(DataError, match=r"q\.json, line 3: not valid JSON"):
        load(tmp_path, '[\n{"question": "a", "passages": []},\n{"question": }\n]', "q.json")


def test_broken_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl, line 2: not valid JSON \(Expecting"):
        load(tmp_path, lines(GENERIC) + '{"question": \n')


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.txt"])
def test_lists_and_lines_in_any_file(tmp_path: Path, name: str) -> None:
    expected = [parse_question({**GENERIC, "id": str(i)}, "") for i in range(3)]
    rows = [{**GENERIC, "id": str(i)} for i in range(3)]
    assert load(tmp_path, lines(*rows), name) == expected
    assert load(tmp_path, json.dumps(rows, indent=2), name) == expected
    assert load(tmp_path, "\n " + json.dumps(rows), name) == expected


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("as_list", [False, True])
def test_byte_order_mark_line_ends_and_blank_lines(tmp_path: Path, bom: bytes, end: str, as_list: bool) -> None:
    rows = [{**GENERIC, "id": "a"}, {**GENERIC, "id": "b"}]
    text = json.dumps(rows, indent=1) if as_list else "\n\n".join(map(json.dumps, rows)) + "\n  \n\n"
    questions = load(tmp_path, bom + text.replace("\n", end).encode())
    assert [question.id for question in questions] == ["a", "b"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_line_separators_inside_a_string_end_no_line(tmp_path: Path, character: str) -> None:
    text = f"before{character}after"
    escaped = character < " "  # JSON allows the others as they are
    row = json.dumps({**GENERIC, "question": text}, ensure_ascii=escaped)
    assert (character in row) is not escaped
    assert [question.text for question in load(tmp_path, row + "\n" + row)] == [text, text]


def test_last_line_without_newline_and_deep_unicode(tmp_path: Path) -> None:
    row = {**GENERIC, "question": "誰が🏳️‍🌈\x00?"}
    assert load(tmp_path, lines(row).rstrip("\n"))[0].text == row["question"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_no_question(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl: holds no question"):
        load(tmp_path, content)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl: cannot be read \(.*utf-8"):
        load(tmp_path, b"\xff\xfe\x00")


@pytest.mark.parametrize("source", ["no_such_file.jsonl", "no/such/file", "/no/such", "plain-name", ""])
def test_no_such_file(source: str) -> None:
    with pytest.raises(DataError, match="no such file, and not a Hub id of the form owner/name"):
        load_questions(source)


def test_limit_and_seed(tmp_path: Path) -> None:
    text = lines(*({**GENERIC, "id": str(i)} for i in range(30)))
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


def test_hub_id_without_network() -> None:
    started = time.perf_counter()
    with pytest.raises(DataError, match=r"^nobody/no-such-data-set: no such file, and the Hub does not give it \("):
        load_questions("nobody/no-such-data-set")
    assert time.perf_counter() - started < 30


def test_hub_without_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'needs datasets.*pip install "at2-prune\[train\]"'):
        load_questions("hotpotqa/hotpot_qa")


def test_shipped_questions_can_be_answered_from_their_passages() -> None:
    questions = load_questions(sample_questions_path())
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
    questions = load_questions(path)
    assert [question.id for question in questions] == [str(row["id"]) for row in raw]
    for question, row in zip(questions, raw, strict=True):
        assert question.text == row["question"]
        assert question.answer == row["answer"]
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
