"""Processes of the command line: two under torchrun give the table of one, and one that is interrupted goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from at2_prune.models.language_model import LanguageModel
from at2_prune.models.shared_prefix import WORTH_BATCHING


def command(tiny_lm: LanguageModel, folder: Path, out: str) -> list[str]:
    tiny_lm.model.save_pretrained(folder / "model")
    tiny_lm.tokenizer.save_pretrained(folder / "model")
    options = ["--model", str(folder / "model"), "--limit", "5", "--k", "1", "2", "3", "4", "--max-new-tokens", "4"]
    methods = ["--methods", "average_attention", "leave_one_out", "random"]
    methods += ["--faithfulness", "3"]
    return ["eval", *options, *methods, "--cache", str(folder / f"{out}.sqlite"), "--out", str(folder / out)]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, env=environment)


def unmeasured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: unmeasured(entry) for key, entry in value.items() if key not in ("seconds", "memory")}
    return value


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    one = run(["at2_prune", *command(tiny_lm, tmp_path, "one")])
    assert one.returncode == 0, one.stderr
    shared = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "at2_prune"]
    two = run([*shared, *command(tiny_lm, tmp_path, "two")])
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("saved to") == 1
    again = run([*shared, *command(tiny_lm, tmp_path, "two")])
    assert again.returncode == 0, again.stderr
    assert again.stdout == two.stdout
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")]
    assert unmeasured(results[0]) == unmeasured(results[1])
    files = [(tmp_path / name / "questions.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert [unmeasured(json.loads(line)) for line in files[0]] == [unmeasured(json.loads(line)) for line in files[1]]
    assert len(files[0]) == 5
    assert results[0]["faithfulness"]["passage"]["n"] == 3
    kept = [
        {tuple(at["kept"]) for method in json.loads(line)["methods"].values() for at in method["at"].values()}
        for line in files[0]
    ]
    assert max(map(len, kept)) > WORTH_BATCHING  # so that answers are written together too
    assert not list((tmp_path / "two").glob("questions.*.jsonl"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_interrupted_from_outside(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    arguments = command(tiny_lm, tmp_path, "cut")
    arguments[arguments.index("--limit") + 1] = "12"
    arguments[arguments.index("--methods") + 1 : arguments.index("--faithfulness")] = ["surrogate_32", "surrogate_64"]
    lines = tmp_path / "cut" / "questions.jsonl"
    started = [sys.executable, "-m", "at2_prune", *arguments]
    with subprocess.Popen(started, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (lines.exists() and lines.stat().st_size):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert error.rstrip().endswith("give the same command again to continue")
    assert "Traceback" not in error
    done = lines.read_text(encoding="utf-8")
    assert done.endswith("\n")
    assert 1 <= len([json.loads(line) for line in done.splitlines()]) < 12
    assert not (tmp_path / "cut" / "results.json").exists()
    again = run(["at2_prune", *arguments])
    assert again.returncode == 0, again.stderr
    assert lines.read_text(encoding="utf-8").startswith(done)
    assert json.loads((tmp_path / "cut" / "results.json").read_text(encoding="utf-8"))["n"] == 12
