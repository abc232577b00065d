"""Calibration of any model without labels: the coefficients, the cache, and what can go wrong."""

from __future__ import annotations

import copy
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune import AT2Pruner
from at2_prune.calibration import (
    cache,
    calibrate,
    calibrate_in_cache,
    calibrated_coefficients,
    recalibrate,
    shipped_questions,
)
from at2_prune.cli import main
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import CoefficientsError, DataError, InputError
from at2_prune.models import bfloat16
from at2_prune.models.fingerprint import fingerprint
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.training import TrainingData

FEW = 20


@pytest.fixture(scope="session")
def few_questions() -> list[Question]:
    return shipped_questions()[:FEW]


@pytest.fixture
def model_folder(tiny_lm: LanguageModel, tmp_path: Path) -> Path:
    """The folder of a model that no coefficients come with."""
    folder = tmp_path / "some-model"
    tiny_lm.model.save_pretrained(folder)
    tiny_lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, few_questions: list[Question], tmp_path: Path) -> Path:
    """Calibrate with the first questions only, in a cache of this test."""
    monkeypatch.setenv("AT2_PRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AT2_PRUNE_CALIBRATE", raising=False)
    monkeypatch.setattr(cache, "shipped_data", lambda: TrainingData(few_questions, "few"))
    return tmp_path / "cache"


def test_a_model_without_coefficients_is_calibrated_once(
    few: Path, model_folder: Path, caplog: pytest.LogCaptureFixture, few_questions: list[Question]
) -> None:
    with caplog.at_level("WARNING", logger="at2_prune.calibration.cache"):
        pruner = AT2Pruner.from_pretrained(str(model_folder))
    assert f"learns them from {FEW} questions" in caplog.text
    question = few_questions[0]
    result = pruner.answer(question.text, question.passages, k=2)
    assert len(result.kept) == 2
    assert result.probabilities is not None
    assert all(0 <= p <= 1 for p in result.probabilities)
    assert sorted(path.suffix for path in (few / "scout").iterdir()) == ["", ".lock"]  # no half-finished folder is left
    caplog.clear()
    again = AT2Pruner.from_pretrained(LanguageModel.load(str(model_folder)))
    assert caplog.text == ""
    assert again.score(question.text, question.passages) == pruner.score(question.text, question.passages)


def test_a_float32_model_is_read_in_bfloat16_where_that_is_exact_and_fast(
    tiny_lm: LanguageModel, few_questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bfloat16, "fast_in_bfloat16", lambda: True)
    model = copy.deepcopy(tiny_lm.model).to(torch.bfloat16).to(torch.float32)
    found = calibrate(LanguageModel(model, tiny_lm.tokenizer), [TrainingData(few_questions, "few")], tmp_path)
    assert found.coefficients.training["dtype"] == "bfloat16"
    assert found.coefficients.training["weights"] == fingerprint(model)  # so the cache finds the coefficients
    assert model.dtype == torch.float32


def test_a_model_with_shipped_coefficients_needs_a_folder(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate"]) == 2
    assert "gemma-3-270m" in (said := capsys.readouterr().err)
    assert "--out DIR" in said


def test_calibration_can_be_switched_off(few: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CoefficientsError, match="train-scout --model"):
        AT2Pruner.from_pretrained(str(model_folder), calibrate=False)
    with pytest.raises(CoefficientsError, match="train-scout --model"):
        PruneStep(PruneConfig(model=str(model_folder), calibrate=False)).pruner  # noqa: B018
    monkeypatch.setenv("AT2_PRUNE_CALIBRATE", "off")
    with pytest.raises(CoefficientsError, match="train-scout --model"):
        AT2Pruner.from_pretrained(str(model_folder))
    assert PruneConfig.load().calibrate is False
    assert not few.exists()


def test_the_cache_takes_other_questions_later(
    few: Path, tiny_lm: LanguageModel, few_questions: list[Question]
) -> None:
    """`at2-prune calibrate` without --out: the second call has other data, and replaces what the first one kept."""
    first = calibrate_in_cache(tiny_lm, [TrainingData(few_questions, "few")]).coefficients
    assert calibrated_coefficients(tiny_lm).first.equal(first.first)
    second = calibrate_in_cache(tiny_lm, [TrainingData(few_questions[:12], "fewer")]).coefficients
    assert not second.first.equal(first.first)
    assert calibrated_coefficients(tiny_lm).first.equal(second.first)
    assert sorted(path.suffix for path in (few / "scout").iterdir()) == ["", ".lock"]


def test_an_interrupted_calibration_goes_on(
    tiny_lm: LanguageModel, tmp_path: Path, few_questions: list[Question]
) -> None:
    data = [TrainingData(few_questions, "few")]
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(tiny_lm, data, tmp_path / "a", stop)
    examples = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "examples").iterdir()}
    assert len(examples) == 7
    assert not (tmp_path / "a" / "config.json").exists()  # nothing half-written passes for coefficients
    report = calibrate(tiny_lm, data, tmp_path / "a")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "examples").iterdir()}
    assert {name: after[name] for name in examples} == examples
    assert report.questions == FEW
    whole = calibrate(tiny_lm, data, tmp_path / "b").coefficients
    assert whole.first.equal(report.coefficients.first)
    assert whole.calibration is not None
    assert report.coefficients.calibration is not None
    assert whole.calibration.source == pytest.approx(report.coefficients.calibration.source, rel=1e-4)


def test_damaged_coefficients_in_the_cache_are_made_anew(few: Path, model_folder: Path) -> None:
    AT2Pruner.from_pretrained(str(model_folder))
    config = next(few.glob("scout/*/config.json"))
    good = config.read_text(encoding="utf-8")
    config.write_text(good[:50], encoding="utf-8")
    AT2Pruner.from_pretrained(LanguageModel.load(str(model_folder)))
    assert json.loads(config.read_text(encoding="utf-8")) == json.loads(good)


def _load(folder: str, count: Any) -> None:
    data = TrainingData(shipped_questions()[:FEW], "few")

    def asked() -> TrainingData:
        with count.get_lock():
            count.value += 1
        return data

    cache.shipped_data = asked
    AT2Pruner.from_pretrained(folder)


@pytest.mark.slow
def test_of_two_processes_one_calibrates(few: Path, model_folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    count = context.Value("i", 0)
    workers = [context.Process(target=_load, args=(str(model_folder), count)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert count.value == 1


def test_probabilities_can_be_fitted_to_own_questions(
    tiny_lm: LanguageModel, tmp_path: Path, few_questions: list[Question]
) -> None:
    first = calibrate(tiny_lm, [TrainingData(few_questions, "few")], tmp_path / "first").coefficients
    report = recalibrate(tiny_lm, first, few_questions[:12], "mine", tmp_path / "second")
    saved = ScoutCoefficients.from_pretrained(tmp_path / "second")
    assert saved.first.equal(first.first)
    assert saved.calibration == report.coefficients.calibration != first.calibration
    assert saved.calibration is not None
    assert saved.calibration.questions == report.questions == 12
    assert saved.training["recalibrated_on"] == {"data": "mine", "questions": 12}
    with pytest.raises(DataError, match="10 questions with both supporting passages and other passages, got 3"):
        recalibrate(tiny_lm, first, few_questions[:3], "mine", tmp_path / "third")


def test_the_command(model_folder: Path, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = [{"title": q.passages[0].title, "text": q.passages[0].text} for q in shipped_questions()[:40]]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in corpus), encoding="utf-8")
    out = tmp_path / "mine"
    assert main(["calibrate", "--model", str(model_folder), "--passages", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "evidence found among the best 2 passages" in printed
    assert f"saved to {out}" in printed
    assert ScoutCoefficients.from_pretrained(out).training["data"] == [
        "at2_prune/calibration_questions.jsonl",
        path.name,
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--questions", "q.jsonl"], "--questions needs --out"),
        (["--questions", "q.jsonl", "--passages", "p.json", "--out", "o"], "cannot be used with --passages"),
        (["--coefficients", "c"], "--coefficients needs --questions"),
        (["--passages", "one.json"], "1 different passages with text, but at least 20 are needed"),
        (["--passages", "blank.json"], "0 different passages with text"),
        (["--passages", "same.json"], "1 different passages with text"),
        (["--passages", "missing.json"], "missing.json"),
        (["--passages", "broken.jsonl"], "broken.jsonl, line 2, column"),
    ],
)
def test_wrong_input_is_refused_before_a_model_is_loaded(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files: dict[str, list[Any]] = {"one.json": ["A text."], "blank.json": [" ", ""], "same.json": ["A text."] * 30}
    for name, rows in files.items():
        Path(name).write_text(json.dumps(rows), encoding="utf-8")
    Path("broken.jsonl").write_text('"A text."\n{"text": \n', encoding="utf-8")
    assert main(["calibrate", "--model", "no/such-model", *options]) == 2
    assert words in capsys.readouterr().err


def test_bounds_need_a_calibration(tiny_pruner: AT2Pruner) -> None:
    with pytest.raises(InputError, match="which the method at2 does not give"):
        PruneStep(PruneConfig(min_score=0.5), tiny_pruner).pruner  # noqa: B018


def test_lengths_say_nothing_about_evidence() -> None:
    questions = shipped_questions()
    assert questions == shipped_questions()
    lengths: dict[bool, list[int]] = {True: [], False: []}
    for question in questions:
        for index, passage in enumerate(question.passages):
            lengths[index in question.gold].append(len(passage.text))
    means = [sum(some) / len(some) for some in lengths.values()]
    assert abs(means[0] - means[1]) < 0.1 * means[1]
    assert max(lengths[False]) > 2 * min(lengths[False])
    once = {passage.title: passage.text for question in questions for passage in question.passages}
    distinct = {passage for question in questions for passage in question.passages}
    assert len(distinct) < 0.6 * 10 * len(questions)  # passages are shared, so that each is read once
    assert len(once) <= len(distinct)


def test_an_embedder_has_coefficients_of_its_own(
    few: Path,
    model_folder: Path,
    tiny_embedder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with caplog.at_level("WARNING", logger="at2_prune.calibration.cache"):
        pruner = AT2Pruner.from_pretrained(str(model_folder), method="scout_dense", embedder=str(tiny_embedder))
        assert "scout_dense with" in caplog.text
        caplog.clear()
        monkeypatch.chdir(tiny_embedder.parent)  # a relative path names the same embedder
        again = AT2Pruner.from_pretrained(str(model_folder), method="scout_dense", embedder=tiny_embedder.name)
        assert not caplog.text
        AT2Pruner.from_pretrained(str(model_folder))
        assert f"learns them from {FEW} questions" in caplog.text
    passages = ["Ghent is a city.", "Dinant lies on the Meuse."]
    assert pruner.scorer.name == again.scorer.name == "scout_dense"
    assert pruner.score("Where is Dinant?", passages) == pytest.approx(again.score("Where is Dinant?", passages))
