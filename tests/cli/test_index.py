"""`at2-prune index` on several processes: they share the passages, and write one index."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.records import PieceRecord
from at2_prune.passage_index.stores import DiskStore

COUNT = 41
TEXTS = [f"Place {i} lies on river {i % 7}. " * (1 + i % 5) for i in range(COUNT)]
TEXTS += [TEXTS[0], " ", *TEXTS[:2]]  # repeated ones fall to both processes


def command(lm: LanguageModel, folder: Path, out: str) -> list[str]:
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    (folder / "passages.json").write_text(json.dumps(TEXTS))
    coefficients = ScoutCoefficients(
        torch.ones(6, 2, 4), torch.ones(6, 2, 4), torch.ones(6, 1, 4), (0, 1), (1,), model_layers=2
    )
    coefficients.save_pretrained(folder / "scout")
    given = ["--model", str(folder / "model"), "--coefficients", str(folder / "scout"), "--out", str(folder / out)]
    return ["at2_prune", "index", "--passages", str(folder / "passages.json"), *given]


def run(arguments: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [sys.executable, "-m", *arguments]
    return subprocess.run(started, capture_output=True, text=True, env=environment, input=stdin)


def records(folder: Path) -> dict[str, list[PieceRecord]]:
    store = DiskStore(folder)
    rows = sqlite3.connect(folder / "passages.sqlite").execute("SELECT key FROM records").fetchall()
    return {key: store.get(("", key)) or [] for (key,) in rows}


@pytest.mark.slow
def test_two_processes_write_the_index_of_one(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    one = run(command(tiny_lm, tmp_path, "one"))
    assert one.returncode == 0, one.stderr
    assert f"read {COUNT} new passages of {len(TEXTS)}" in one.stdout
    shared = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    two = run([*shared, *command(tiny_lm, tmp_path, "two")])
    assert two.returncode == 0, two.stderr
    assert two.stdout.count(f"read {COUNT} new passages of {len(TEXTS)}") == 1  # both together, so none was read twice
    first, second = records(tmp_path / "one"), records(tmp_path / "two")
    assert first.keys() == second.keys()
    assert len(first) == COUNT
    for key, (record,) in first.items():
        (other,) = second[key]
        assert record.title == other.title
        for layer, vectors in record.keys.items():  # another batch may round otherwise
            torch.testing.assert_close(other.keys[layer].restored(), vectors.restored(), atol=0.05, rtol=0.05)
    with sqlite3.connect(tmp_path / "two" / "passages.sqlite") as connection:
        connection.execute("DELETE FROM records WHERE rowid % 2")
        (left,) = connection.execute("SELECT count(*) FROM records").fetchone()
    again = run([*shared, *command(tiny_lm, tmp_path, "two")])
    assert again.returncode == 0, again.stderr
    assert f"read {COUNT - left} new passages" in again.stdout
    assert records(tmp_path / "two").keys() == first.keys()


@pytest.mark.slow
def test_several_processes_cannot_share_stdin(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    arguments = command(tiny_lm, tmp_path, "index")
    arguments[arguments.index("--passages") + 1] = "-"
    done = run(["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", *arguments], '["a"]')
    assert done.returncode != 0
    assert "several are running: name a file" in done.stderr
