"""The scores as an `evaluate.Metric`, from Python and from its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from at2_prune.errors import InputError, MissingExtraError
from at2_prune_eval.metrics import METRIC_PATH

pytest.importorskip("evaluate")

PREDICTIONS = [
    {"id": "q1", "answer": "River Meuse", "kept": [5, 2, 8]},
    {"id": "q2", "answer": "yes it is", "kept": [0, 1, 3]},
    {"id": "q3", "answer": "", "kept": []},
    {"id": "q4", "answer": "The Vell!", "kept": [4, 0, 2]},
]
REFERENCES = [
    {"id": "q1", "answers": ["Meuse"], "gold": [5, 8]},
    {"id": "q2", "answers": ["yes"], "gold": [0, 1]},
    {"id": "q3", "answers": ["Berlin"], "gold": [2, 6]},
    {"id": "q4", "answers": ["River Vell", "Vell"], "gold": [0, 2, 4]},
]
# by hand:            q1   q2   q3   q4
ANSWERS = {
    "em": sum([0, 0, 0, 1]) / 4,
    "f1": sum([2 / 3, 0, 0, 1]) / 4,
    "precision": sum([1 / 2, 0, 0, 1]) / 4,
    "recall": sum([1, 0, 0, 1]) / 4,
}
SUPPORT = {
    "gold_recall": sum([1, 1, 0, 1]) / 4,
    "gold_precision": sum([2 / 3, 2 / 3, 0, 1]) / 4,
    "gold_f1": sum([4 / 5, 4 / 5, 0, 1]) / 4,
    "both_gold": sum([1, 1, 0, 1]) / 4,
}
SUPPORT_AT_2 = {
    "gold_recall@2": sum([1 / 2, 1, 0, 2 / 3]) / 4,
    "gold_precision@2": sum([1 / 2, 1, 0, 1]) / 4,
    "gold_f1@2": sum([1 / 2, 1, 0, 4 / 5]) / 4,
    "both_gold@2": sum([0, 1, 0, 0]) / 4,
}


@pytest.fixture
def metric(tmp_path: Path) -> Any:
    from at2_prune_eval.metrics import HotpotQAMetric

    return HotpotQAMetric(cache_dir=str(tmp_path))


def test_hand_worked_means(metric: Any) -> None:
    assert metric.compute(predictions=PREDICTIONS, references=REFERENCES) == pytest.approx({**ANSWERS, **SUPPORT})
    shuffled = [PREDICTIONS[i] for i in (2, 0, 3, 1)]
    assert metric.compute(predictions=shuffled, references=REFERENCES) == pytest.approx({**ANSWERS, **SUPPORT})


def test_ranking_at_k(metric: Any) -> None:
    at_9 = {f"{name}@9": value for name, value in SUPPORT.items()}
    scores = metric.compute(predictions=PREDICTIONS, references=REFERENCES, ks=[2, 9])
    assert scores == pytest.approx({**ANSWERS, **SUPPORT_AT_2, **at_9})


def test_batches(metric: Any) -> None:
    for half in (slice(0, 2), slice(2, 4)):
        metric.add_batch(predictions=PREDICTIONS[half], references=REFERENCES[half])
    assert metric.compute() == pytest.approx({**ANSWERS, **SUPPORT})


@pytest.mark.parametrize(
    ("predictions", "references", "ks", "says"),
    [
        (PREDICTIONS[:1] * 2, REFERENCES[:2], None, "predictions: ids must differ, but 2 rows have 1 ids"),
        (PREDICTIONS[:2], REFERENCES[1:3], None, r"same ids; only one side has \['q1', 'q3'\]"),
        (PREDICTIONS[:1], [{**REFERENCES[0], "gold": []}], None, "question 'q1': there are no gold passages"),
        (PREDICTIONS[:1], [{**REFERENCES[0], "answers": []}], None, "question 'q1': there is no true answer"),
        (PREDICTIONS, REFERENCES, [1, 0], r"k must be at least 1, got \[1, 0\]"),
        ([], [], None, "there is no question to score"),
    ],
)
def test_bad_input(metric: Any, predictions: Any, references: Any, ks: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        metric.compute(predictions=predictions, references=references, ks=ks)


@pytest.mark.parametrize("wrong", [{"answers": "Meuse"}, {"gold": [[5]]}, {"gold": "5"}])
def test_fields_of_the_wrong_type(metric: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        metric.compute(predictions=PREDICTIONS[:1], references=[{**REFERENCES[0], **wrong}])


def test_loads_from_its_file_offline(tmp_path: Path) -> None:
    """In a process of its own that has nothing cached and may not use the Hub."""
    program = (
        "import json, socket, sys, evaluate\n"
        "def refuse(*args): raise AssertionError('used the network')\n"
        "socket.socket.connect = refuse\n"
        "path, rows = sys.argv[1], json.loads(sys.argv[2])\n"
        "print(json.dumps(evaluate.load(path).compute(predictions=rows[0], references=rows[1])))\n"
    )
    folders = {"HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", program, METRIC_PATH, json.dumps([PREDICTIONS, REFERENCES])],
        env={**os.environ, **folders, "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx({**ANSWERS, **SUPPORT})


def test_scores_need_no_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    import at2_prune_eval.metrics as metrics

    for name in ("evaluate", "at2_prune_eval.metrics.hotpotqa"):
        monkeypatch.setitem(sys.modules, name, None)
    assert metrics.answer_scores("Meuse", "Meuse").em == 1
    monkeypatch.delitem(sys.modules, "at2_prune_eval.metrics.hotpotqa")
    with pytest.raises(MissingExtraError, match=r'needs evaluate.*pip install "at2-prune\[eval\]"'):
        _ = metrics.HotpotQAMetric
