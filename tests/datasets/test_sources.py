"""Files of every kind, and the Hub."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from at2_prune.datasets import load_questions, parse_question
from at2_prune.errors import DataError, MissingExtraError

from .rows import DOLLY, HUB, MUSIQUE, OFFICIAL, PLAIN, TWO_WIKI, lines, load


def test_json_list_errors_name_the_entry(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.json, entry 1: field 'question'"):
        load(tmp_path, json.dumps([PLAIN, {**PLAIN, "question": 1}]), "q.json")
    with pytest.raises(DataError, match=r"q\.json, line 3: not valid JSON"):
        load(tmp_path, '[\n{"question": "a", "passages": []},\n{"question": }\n]', "q.json")


def test_broken_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl, line 2: not valid JSON \(Expecting"):
        load(tmp_path, lines(PLAIN) + '{"question": \n')


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("[" * 100_000, r"not valid JSON \(nested too deeply\)"),
        ('{"question": ' + "1" * 5000 + "}", r"not valid JSON \(a number has too many digits\)"),
        ('{"question": "a", "question": "b"}', r"not valid JSON \(the key 'question' is given twice: delete one\)"),
    ],
    ids=["nesting", "digits", "key"],
)
def test_json_that_python_cannot_read_or_reads_in_part(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(DataError, match=rf"q\.json: {says}$"):
        load(tmp_path, f"[{row}]", "q.json")
    with pytest.raises(DataError, match=rf"q\.jsonl, line 2: {says}$"):
        load(tmp_path, lines(PLAIN) + row)


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.txt"])
@pytest.mark.parametrize("row", [PLAIN, HUB, OFFICIAL, TWO_WIKI, MUSIQUE])
def test_lists_and_lines_in_any_file(tmp_path: Path, name: str, row: dict[str, Any]) -> None:
    rows = [{**row, "id": str(i), "_id": str(i)} for i in range(3)]
    expected = [parse_question(row, "") for row in rows]
    assert [question.id for question in expected] == ["0", "1", "2"]
    assert load(tmp_path, lines(*rows), name) == expected
    assert load(tmp_path, json.dumps(rows, indent=2), name) == expected
    assert load(tmp_path, "\n " + json.dumps(rows), name) == expected


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("as_list", [False, True])
def test_byte_order_mark_line_ends_and_blank_lines(tmp_path: Path, bom: bytes, end: str, as_list: bool) -> None:
    rows = [{**PLAIN, "id": "a"}, {**PLAIN, "id": "b"}]
    text = json.dumps(rows, indent=1) if as_list else "\n\n".join(map(json.dumps, rows)) + "\n  \n\n"
    questions = load(tmp_path, bom + text.replace("\n", end).encode())
    assert [question.id for question in questions] == ["a", "b"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_line_separators_inside_a_string_end_no_line(tmp_path: Path, character: str) -> None:
    text = f"before{character}after"
    escaped = character < " "  # JSON allows the others as they are
    row = json.dumps({**PLAIN, "question": text}, ensure_ascii=escaped)
    assert (character in row) is not escaped
    assert [question.text for question in load(tmp_path, row + "\n" + row)] == [text, text]


def test_last_line_without_newline_and_deep_unicode(tmp_path: Path) -> None:
    row = {**PLAIN, "question": "誰が🏳️‍🌈\x00?"}
    assert load(tmp_path, lines(row).rstrip("\n"))[0].text == row["question"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_no_question(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl: holds no question$"):
        load(tmp_path, content)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl: cannot be read \(.*utf-8"):
        load(tmp_path, b"\xff\xfe\x00")


@pytest.mark.parametrize("source", ["no_such_file.jsonl", "no/such/file", "/no/such", "plain-name", ""])
def test_no_such_file(source: str) -> None:
    with pytest.raises(DataError, match="there is no such file, and this is not a Hub id of the form owner/name"):
        load_questions(source)


def test_hub_id_without_network() -> None:
    started = time.perf_counter()
    with pytest.raises(DataError, match=r"^nobody/no-such-data-set: there is no such file, and no data set can"):
        load_questions("nobody/no-such-data-set")
    assert time.perf_counter() - started < 30


def test_hub_without_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'needs datasets.*pip install "at2-prune\[train\]"'):
        load_questions("hotpotqa/hotpot_qa")


@pytest.mark.parametrize(
    ("name", "row"),
    [("hotpotqa/hotpot_qa", HUB), ("framolfese/2WikiMultihopQA", TWO_WIKI), ("dgslibisey/MuSiQue", MUSIQUE)],
)
def test_what_datasets_gives_is_the_same_question(
    name: str, row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` reads a folder of that name as it reads the Hub's; lists of mappings and mixed lists included."""
    datasets = pytest.importorskip("datasets")
    if name == "framolfese/2WikiMultihopQA":  # columns, as on the Hub: arrow has no lists of a string and a list
        titles, sentences = zip(*row["context"], strict=True)
        facts, sent_ids = zip(*row["supporting_facts"], strict=True)
        columns = {"context": {"title": titles, "sentences": sentences}}
        row = {**row, **columns, "id": row["_id"], "supporting_facts": {"title": facts, "sent_id": sent_ids}}
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text(lines({**row, "id": f"{split}-1"}, {**row, "id": f"{split}-2"}))
    files = "".join(f"\n  - split: {split}\n    path: {split}.jsonl" for split in ("train", "validation"))
    config = f"---\nconfigs:\n- config_name: distractor\n  default: true\n  data_files:{files}\n---\n"
    (folder / "README.md").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    expected = [parse_question({**row, "id": f"validation-{i}"}, "") for i in (1, 2)]
    assert load_questions(name, require=("answer", "gold")) == expected
    assert [question.id for question in load_questions(name, split="train")] == ["train-1", "train-2"]


def test_dolly_on_the_hub_gives_the_rows_that_the_published_estimators_were_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "databricks" / "databricks-dolly-15k"
    folder.mkdir(parents=True)
    rows = [DOLLY, {**DOLLY, "category": "open_qa"}, {**DOLLY, "context": "x" * 20_000}, {**DOLLY, "response": "Bo"}]
    (folder / "train.jsonl").write_text(lines(*rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    questions = load_questions("databricks/databricks-dolly-15k")
    assert [(question.id, question.answer) for question in questions] == [
        ("databricks-dolly-15k, row 0", "Ann"),
        ("databricks-dolly-15k, row 3", "Bo"),
    ]
