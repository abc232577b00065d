"""The index on disk: it is kept, refuses another model, and loses nothing to a full disk, a crash or other writers."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune.cli import main
from at2_prune.errors import CacheError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.index import PassageIndex
from at2_prune.passage_index.stores import DiskStore, shared_memory
from at2_prune.passages import Passage

from .cases import PASSAGES, index_command


def test_an_index_on_disk(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    index = PassageIndex.open(tmp_path / "index", tiny_lm, (0, 1), (1,))
    assert index.add(PASSAGES) == len(PASSAGES)
    again = PassageIndex.open(tmp_path / "index", tiny_lm, (0, 1), (1,))
    assert again.add([*PASSAGES, Passage("")]) == 0
    with pytest.raises(InputError, match=r"of another model or of other settings .*layers: .0, 1. there, .0. now"):
        PassageIndex.open(tmp_path / "index", tiny_lm, (0,))
    with pytest.raises(InputError, match="holds no passage index"):
        DiskStore(tmp_path / "nothing")


def test_records_on_disk_are_loaded_once(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_memory.clear()  # other tests keep the same passages there
    index = PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))
    index.add(PASSAGES)
    loads: list[object] = []
    load = DiskStore.get
    monkeypatch.setattr(DiskStore, "get", lambda store, key: loads.append(key) or load(store, key))
    for _ in range(3):
        assert len(list(index.records(PASSAGES))) == len(PASSAGES)
    assert len(loads) == len(PASSAGES)


def test_a_damaged_record_is_read_again(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    index = PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))
    index.add(PASSAGES)
    with sqlite3.connect(tmp_path / "passages.sqlite") as connection:
        connection.execute("UPDATE records SET data = substr(data, 1, 40) WHERE key = ?", [index.key(PASSAGES[0])[1]])
    again = PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))
    assert again.add(PASSAGES) == 1


def test_indexes_of_several_machines_are_merged(
    tiny_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, some in (("a", PASSAGES[:2]), ("b", PASSAGES[1:])):
        PassageIndex.open(tmp_path / name, tiny_lm, (0, 1), (1,)).add(some)
    parts = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["index", "--merge", *parts, "--out", str(tmp_path / "whole")]) == 0
    assert f"copied {len(PASSAGES)} passages" in capsys.readouterr().out
    whole = PassageIndex.open(tmp_path / "whole", tiny_lm, (0, 1), (1,))
    assert whole.add(PASSAGES) == 0
    for name, some in (("a", PASSAGES[:2]), ("b", PASSAGES[1:])):
        part = DiskStore(tmp_path / name)
        for passage in some:
            assert repr(whole.store.get(whole.key(passage))) == repr(part.get(whole.key(passage)))
    assert main(["index", "--merge", *parts, "--out", str(tmp_path / "whole")]) == 0
    assert f"copied 0 passages; the index in {tmp_path / 'whole'} now has {len(PASSAGES)}" in capsys.readouterr().out


def test_the_index_of_another_model_is_not_merged(
    tiny_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PassageIndex.open(tmp_path / "a", tiny_lm, (0, 1), (1,)).add(PASSAGES)
    PassageIndex.open(tmp_path / "b", tiny_lm, (0,)).add(PASSAGES)
    parts = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["index", "--merge", *parts, "--out", str(tmp_path / "whole")]) == 2
    assert "of another model or of other settings" in capsys.readouterr().err
    assert len(DiskStore(tmp_path / "whole")) == 0
    assert main(["index", "--merge", str(tmp_path / "c"), "--out", str(tmp_path / "whole")]) == 2
    assert "holds no passage index" in capsys.readouterr().err


def test_a_file_that_is_no_index(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "passages.sqlite").write_text("no database " * 200)
    with pytest.raises(CacheError, match="cannot be read or written"):
        PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))


def _write(folder: str, name: str) -> None:
    store = DiskStore(folder)
    for i in range(20):
        store.add({("", f"{name}{i}"): []})


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    DiskStore(tmp_path, {"model": "m"})
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(tmp_path), name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(DiskStore(tmp_path)) == 40


def _create(folder: str, ready: object, name: str) -> None:
    ready.wait()  # type: ignore[attr-defined]
    DiskStore(folder, {"model": "m"}).add({("", name): []})


def test_two_processes_may_make_the_same_index(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(10):
        ready = context.Barrier(3)
        makers = [context.Process(target=_create, args=(str(tmp_path / str(turn)), ready, name)) for name in "abc"]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
            assert maker.exitcode == 0
        assert len(DiskStore(tmp_path / str(turn))) == 3


def test_another_model_is_refused_and_both_are_named(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))
    same = LanguageModel(tiny_lm.model, tiny_lm.tokenizer, name="under another name")
    PassageIndex.open(tmp_path, same, (0, 1), (1,))
    weight = next(tiny_lm.model.parameters())
    other = LanguageModel(tiny_lm.model, tiny_lm.tokenizer, name="another-llama")
    with torch.no_grad():
        weight.mul_(2)
        try:
            with pytest.raises(InputError, match="model_name: 'tiny-random-llama' there, 'another-llama' now"):
                PassageIndex.open(tmp_path, other, (0, 1), (1,))
        finally:
            weight.div_(2)


def test_an_index_of_another_version_or_head_is_refused(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))
    with sqlite3.connect(tmp_path / "passages.sqlite") as connection:
        (text,) = connection.execute("SELECT value FROM about").fetchone()
        connection.execute(
            "UPDATE about SET value = ?", [json.dumps({**json.loads(text), "format": 0, "head": "Texts:"})]
        )
    with pytest.raises(InputError, match=r"format: 0 there, \d now; head: 'Texts:' there, 'Documents:\\n' now"):
        PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))


MANY = [Passage(f"Place {i} lies on river {i % 7}. " * 4, title=f"Place {i}") for i in range(400)]


def _run(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which may then run commands."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*options.pop("under", ()), sys.executable, "-c", f"import sys\nfrom at2_prune.cli import main\n{code}"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that was refused. A bar before it does not count."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("at2-prune: ")]
    assert done.stderr.rstrip().endswith(line)
    return line


def _committed(folder: Path) -> int:
    store = DiskStore(folder)
    keys = [key for (key,) in sqlite3.connect(folder / "passages.sqlite").execute("SELECT key FROM records")]
    assert all(store.get(("", key)) is not None for key in keys)  # each is whole
    return len(keys)


def test_a_full_disk_is_one_line_and_the_rest_follows(
    tiny_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = index_command(tiny_lm, tmp_path, MANY)
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
    full += "sys.exit(main(sys.argv[1:]))"
    line = _one_line(_run(full, *command))
    assert "make room" in line
    assert str(tmp_path / "index") in line
    kept = _committed(tmp_path / "index")
    assert 0 < kept < len(MANY)
    assert main(command) == 0
    assert f"read {len(MANY) - kept} new passages of {len(MANY)}" in capsys.readouterr().out


def test_a_full_database_is_said(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    index = PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))
    index.store._open().execute("PRAGMA max_page_count = 20")  # type: ignore[attr-defined]
    with pytest.raises(CacheError, match=r"database or disk is full.*make room"):
        index.add(MANY)
    again = PassageIndex.open(tmp_path, tiny_lm, (0, 1), (1,))
    assert len(list(again.records(MANY[:20]))) == 20


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_while_writing_loses_nothing(
    tiny_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = index_command(tiny_lm, tmp_path, MANY * 3)
    file = tmp_path / "index" / "passages.sqlite"
    seen = 0
    with subprocess.Popen([sys.executable, "-m", "at2_prune", *command], stderr=subprocess.PIPE) as process:
        while process.poll() is None and not seen:
            time.sleep(0.01)
            if file.is_file():
                with sqlite3.connect(file.as_uri() + "?mode=ro", uri=True, timeout=60) as connection:
                    if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'records'").fetchone()[0]:
                        (seen,) = connection.execute("SELECT count(*) FROM records").fetchone()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = _committed(tmp_path / "index")
    assert seen <= kept < len(MANY)
    assert main(command) == 0
    assert f"read {len(MANY) - kept} new passages of {3 * len(MANY)}" in capsys.readouterr().out
    assert _committed(tmp_path / "index") == len(MANY)


NO_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Root may write everywhere, unless it drops these capabilities."""
CLOSED = """
import contextlib, io, json, os, shutil, signal
from pathlib import Path
from at2_prune.passage_index.stores import shared_memory

index, score, new, add = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])

def run(command):
    shared_memory.clear()
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        return main(command), out.getvalue(), error.getvalue()

found = {"open": [run(score)]}
for closed, folder, file in (("folder", 0o555, 0o644), ("file", 0o755, 0o444), ("both", 0o555, 0o444)):
    index.chmod(folder)
    (index / "passages.sqlite").chmod(file)
    found[closed] = [run(score), run(new), run(add)]
index.chmod(0o755)
shutil.rmtree(index)
if not os.fork():
    run(score)
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
assert (index / "passages.sqlite-wal").stat().st_size  # nothing is in the file itself yet
for path in index.iterdir():
    path.chmod(0o444)
index.chmod(0o555)
found["killed"] = [run(score)]
index.chmod(0o755)
print(json.dumps(found))
"""
"""Run commands on an index that may be read only, then on one that a killed process left."""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are those of POSIX")
@pytest.mark.skipif(not hasattr(os, "geteuid") or not (os.geteuid() or shutil.which("setpriv")), reason="run by root")
def test_an_index_that_may_only_be_read(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    add = index_command(tiny_lm, tmp_path, PASSAGES)
    assert main(add) == 0
    score = ["score", "Which river?", *add[1:-2], "--index", add[-1], "--json"]
    (tmp_path / "new.json").write_text(json.dumps([{"text": "A new passage about Ghent."}, "And another."]))
    new = [str(tmp_path / "new.json") if word.endswith("passages.json") else word for word in score]
    under = [] if os.geteuid() else NO_ROOT
    done = _run(CLOSED, add[-1], json.dumps(score), json.dumps(new), json.dumps(add), under=under)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    code, wanted, _ = found["open"][0]
    assert code == 0
    for closed in ("folder", "file", "both", "killed"):
        assert found[closed][0][:2] == [0, wanted], closed
    for closed in ("folder", "file", "both"):
        code, _, error = found[closed][1]
        assert code == 2
        assert "choose a folder that can be written to" in error
        assert error.count("\n") == 1
        assert (found[closed][2][0] == 0) == (closed == "file")  # nothing is missing, so nothing is written
    assert "no permission to write" in found["both"][2][2]
