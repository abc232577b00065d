"""A run's folder: torn lines, damaged ones, folders that are not a run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2_prune.errors import CacheError, DataError, InputError
from at2_prune_eval.document.writing import check_document
from at2_prune_eval.loop.cache import ModelCache
from at2_prune_eval.results.loading import load_results
from at2_prune_eval.results.summary import FORMAT
from at2_prune_eval.run.store import RunStore

CONFIG = {"model": "m", "data": {"name": "d", "limit": None}}


@pytest.mark.parametrize("torn", ['{"id": "b"', '{"id": "b"}', "{", '{"id": \n', "null\n"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: str) -> None:
    store = RunStore(tmp_path, CONFIG)
    store.add({"id": "a", "answer": "line\u2028one\r\n"})
    whole = (tmp_path / "questions.jsonl").read_bytes()
    (tmp_path / "questions.jsonl").write_bytes(whole + torn.encode())
    assert RunStore(tmp_path, CONFIG).load() == {"a": {"id": "a", "answer": "line\u2028one\r\n"}}
    assert (tmp_path / "questions.jsonl").read_bytes() == whole


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    store = RunStore(tmp_path, CONFIG)
    for name in "abc":
        store.add({"id": name})
    lines = (tmp_path / "questions.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "questions.jsonl").write_bytes(lines[0] + b"\0\0\0\n" + lines[2])
    with pytest.raises(DataError, match=r"questions\.jsonl, line 2"):
        store.load()


def test_nested_differences_are_named(tmp_path: Path) -> None:
    RunStore(tmp_path, CONFIG)
    with pytest.raises(InputError, match=r"\(data\.limit: None there, 5 now; seed: None there, 1 now\)"):
        RunStore(tmp_path, {"model": "m", "data": {"name": "d", "limit": 5}, "seed": 1})


def test_folders_that_are_not_a_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="file"):
        RunStore(tmp_path / "file", CONFIG)
    RunStore(tmp_path / "no-config", CONFIG).add({"id": "a"})
    (tmp_path / "no-config" / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json does not"):
        RunStore(tmp_path / "no-config", CONFIG)
    RunStore(tmp_path / "damaged", CONFIG)
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: not valid JSON"):
        RunStore(tmp_path / "damaged", CONFIG)


def test_results_are_replaced_whole(tmp_path: Path) -> None:
    store = RunStore(tmp_path, CONFIG)
    path = store.write_results({"n": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write_results({"n": float("nan")})
    assert path.read_text() == '{\n  "n": 1\n}\n'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "results.json"]


def test_parts_of_several_processes_become_one_file(tmp_path: Path) -> None:
    first, second = RunStore(tmp_path, CONFIG), RunStore(tmp_path, CONFIG, part=1)
    first.add({"id": "c"})
    second.add({"id": "b"})
    second.add({"id": "a"})
    torn = tmp_path / "questions.1.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"id": "d"')
    assert set(first.load()) == {"a", "b", "c"}
    assert torn.read_bytes().endswith(b'{"id": "d"')  # its owner may be in the middle of it
    first.merge(["a", "b", "c", "d"])
    assert (tmp_path / "questions.jsonl").read_text() == '{"id": "a"}\n{"id": "b"}\n{"id": "c"}\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "questions.jsonl"]


def version(number: str) -> dict[str, object]:
    return {**CONFIG, "versions": {"at2-prune": number, "torch": "2.13.0"}}


@pytest.mark.parametrize("later", ["0.1.0", "0.2.0"])
def test_a_run_of_version_0_1_0_goes_on(tmp_path: Path, later: str) -> None:
    RunStore(tmp_path, version("0.1.0")).add({"id": "a"})
    assert RunStore(tmp_path, version(later)).load() == {"a": {"id": "a"}}
    assert '"0.1.0"' in (tmp_path / "config.json").read_text()  # the version that began it


@pytest.mark.parametrize(("earlier", "later"), [("0.1.0", "0.3.0"), ("0.0.9", "0.1.0"), ("0.0.9", "0.2.0")])
def test_a_run_of_another_version_is_refused(tmp_path: Path, earlier: str, later: str) -> None:
    RunStore(tmp_path, version(earlier))
    with pytest.raises(InputError, match=f"versions.at2-prune: '{earlier}' there, '{later}' now"):
        RunStore(tmp_path, version(later))


def test_a_run_of_equal_version_with_another_torch_is_refused(tmp_path: Path) -> None:
    RunStore(tmp_path, version("0.1.0"))
    config = {**CONFIG, "versions": {"at2-prune": "0.2.0", "torch": "2.14.0"}}
    with pytest.raises(InputError, match=r"versions\.torch: '2\.13\.0' there, '2\.14\.0' now"):
        RunStore(tmp_path, config)


def test_paths_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    RunStore("~/run", CONFIG).write_results({"format": FORMAT})
    assert load_results("~/run/results.json")["format"] == FORMAT
    assert ModelCache("~/cache.sqlite").path == tmp_path / "cache.sqlite"
    assert check_document("~/page.md") == tmp_path / "page.md"
    assert not [*(tmp_path / "here").iterdir()]
