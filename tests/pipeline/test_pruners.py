"""One load for each process and set of options, and settings that contradict a given pruner."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune import AT2Pruner, LanguageModel, Question
from at2_prune.errors import InputError
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.pruners import forget_pruners, load_pruner
from at2_prune.pipeline.step import PruneStep
from at2_prune.scorers import DenseScorer, FusionScorer, ScorerOptions, make_scorer


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]


@pytest.fixture
def model_folder(tiny_lm: LanguageModel, tmp_path: Path) -> Path:
    tiny_lm.model.save_pretrained(tmp_path / "model")
    tiny_lm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded."""
    seen: list[str] = []
    load = LanguageModel.load

    def counted(name: Any = None, **options: Any) -> LanguageModel:
        seen.append(str(name))
        return load(name, **options)

    monkeypatch.setattr(LanguageModel, "load", counted)
    return seen


def config_of(folder: Path, **options: Any) -> PruneConfig:
    return PruneConfig(**{"model": str(folder), "method": "average_attention", "max_new_tokens": 4, **options})


def test_steps_share_a_model(model_folder: Path, loads: list[str]) -> None:
    first = PruneStep(config_of(model_folder)).pruner
    assert PruneStep(config_of(model_folder, top_n=1, order="score")).pruner.language_model is first.language_model
    other = PruneStep(config_of(model_folder, method="bm25", max_new_tokens=9)).pruner
    assert other.language_model is first.language_model
    assert (other.scorer.name, other.max_new_tokens, first.scorer.name) == ("bm25", 9, "average_attention")
    assert loads == [str(model_folder)]
    assert PruneStep(config_of(model_folder, dtype="bfloat16")).pruner.language_model is not first.language_model
    assert len(loads) == 2


def test_a_step_for_each_call_loads_once(model_folder: Path, question: Question, loads: list[str]) -> None:
    for _ in range(3):  # no step lives on between the calls
        PruneStep(config_of(model_folder)).run(question.text, question.passages[:3])
    assert len(loads) == 1
    forget_pruners()
    PruneStep(config_of(model_folder)).run(question.text, question.passages[:3])
    assert len(loads) == 2


def test_a_folder_that_was_written_anew_is_loaded_again(model_folder: Path, loads: list[str]) -> None:
    before = load_pruner(config_of(model_folder))
    os.utime(model_folder / "model.safetensors", ns=(1, 2**62))
    assert load_pruner(config_of(model_folder)) is not before
    assert len(loads) == 2


def test_copies_share_and_pickles_load_lazily(model_folder: Path, question: Question, loads: list[str]) -> None:
    step = PruneStep(config_of(model_folder))
    expected = step.run(question.text, question.passages)
    for copied in (copy.deepcopy(step), copy.copy(step), pickle.loads(pickle.dumps(step))):
        assert copied.run(question.text, question.passages) == expected
    assert len(loads) == 1
    assert len(pickle.dumps(step)) < 2000


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_other_processes_take_a_step(model_folder: Path, question: Question, start: str) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start}")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # with one thread, a fork never has to wait for the others
    step = PruneStep(config_of(model_folder))
    expected = step.run(question.text, question.passages)
    with multiprocessing.get_context(start).Pool(1) as pool:
        found = pool.apply_async(step.run, (question.text, question.passages)).get(timeout=120)
    torch.set_num_threads(threads)
    assert [item.index for item in found.kept] == [item.index for item in expected.kept]
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)


def test_a_given_pruner_travels_too(model_folder: Path, question: Question) -> None:
    pruner = AT2Pruner.from_pretrained(model_folder, method="average_attention", max_new_tokens=4)
    step = PruneStep(PruneConfig(), pruner)
    assert copy.deepcopy(step).given is pruner
    assert pickle.loads(pickle.dumps(step)).run(question.text, question.passages) == step.run(
        question.text, question.passages
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "scout"}, "method='scout' contradicts the given pruner, which has 'at2'"),
        ({"method": "bm25"}, "method='bm25' contradicts the given pruner"),
        (
            {"cross_encoder": "some/reranker"},
            "cross_encoder='some/reranker' contradicts the given pruner, which has None",
        ),
        ({"model": "some/model"}, "model='some/model' contradicts the given pruner, which has 'tiny-random-llama'"),
        ({"dtype": "bfloat16"}, "dtype='bfloat16' contradicts the given pruner, which has 'float32'"),
        ({"device": "meta"}, "device 'meta' holds no numbers"),
        ({"index": "x"}, "index='x' contradicts the given pruner, which has None"),
        ({"max_new_tokens": 5}, "max_new_tokens=5 contradicts the given pruner, which has 8"),
    ],
)
def test_settings_that_contradict_the_pruner(tiny_pruner: AT2Pruner, settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PruneStep(PruneConfig(**settings), tiny_pruner)
    with pytest.raises(InputError, match=message):
        PruneStep(PruneConfig(), tiny_pruner).with_config(PruneConfig(**settings))


def test_settings_that_agree_with_the_pruner(tiny_pruner: AT2Pruner) -> None:
    agreeing = {"method": "at2", "model": "tiny-random-llama", "device": "cpu", "dtype": "float32", "max_new_tokens": 8}
    PruneStep(PruneConfig(**agreeing, coefficients="somewhere"), tiny_pruner)
    bm25 = AT2Pruner(tiny_pruner.language_model, make_scorer("bm25"))
    with pytest.raises(InputError, match="coefficients='x' contradicts the given pruner: its method bm25"):
        PruneStep(PruneConfig(coefficients="x"), bm25)


def test_a_reader_by_config(model_folder: Path, question: Question, tmp_path: Path, loads: list[str]) -> None:
    reader = tmp_path / "reader"
    shutil.copytree(model_folder, reader)
    step = PruneStep(config_of(model_folder, reader=str(reader)))
    assert (step.pruner.language_model.name, step.pruner.reader.name) == (str(model_folder), str(reader))
    auto = step.with_config(config_of(model_folder, reader=str(reader), top_n="auto"))
    assert auto.pruner.reader is step.pruner.reader
    alone = PruneStep(config_of(reader)).pruner  # the reader of one step is the scoring model of another
    assert alone.language_model is alone.reader is step.pruner.reader
    itself = PruneStep(config_of(model_folder, reader=str(model_folder))).pruner
    assert itself.reader is itself.language_model is step.pruner.language_model
    assert loads == [str(model_folder), str(reader)]
    pruned = step.run(question.text, question.passages)
    assert pruned.draft == alone.draft(question.text, question.passages).text
    assert step.draft(question.text, question.passages).text == pruned.draft  # type: ignore[union-attr]
    with pytest.raises(InputError, match="reader='another' contradicts the given pruner, which has '/"):
        PruneStep(PruneConfig(reader="another"), step.pruner)


def test_a_cross_encoder_by_config(
    model_folder: Path, tiny_reranker: Path, tmp_path: Path, question: Question, loads: list[str]
) -> None:
    passages = question.passages
    settings = {"method": "cross_encoder", "cross_encoder": str(tiny_reranker)}
    step = PruneStep(config_of(model_folder, **settings))
    found = step.run(question.text, passages)
    reranker = make_scorer("cross_encoder", ScorerOptions(cross_encoder=tiny_reranker))
    pruner = AT2Pruner(step.pruner.language_model, reranker)
    assert found.scores == pytest.approx(pruner.score(question.text, passages))
    inferred = PruneStep(config_of(model_folder, **{**settings, "method": None})).pruner
    assert inferred.scorer.name == "cross_encoder"
    assert inferred.language_model is step.pruner.language_model
    other = shutil.copytree(tiny_reranker, tmp_path / "other")
    assert PruneStep(config_of(model_folder, **{**settings, "cross_encoder": str(other)})).pruner is not step.pruner
    assert PruneStep(config_of(model_folder, cross_encoder=str(other))).pruner.scorer.name == "average_attention"
    assert loads == [str(model_folder)]
    PruneStep(PruneConfig(**settings), pruner)
    with pytest.raises(InputError, match="cross_encoder='some/reranker' contradicts the given pruner, which has '/"):
        PruneStep(PruneConfig(cross_encoder="some/reranker"), pruner)


def test_an_embedder_by_config(
    model_folder: Path, tiny_reranker: Path, tmp_path: Path, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages, embedder = question.passages, str(tiny_reranker)  # its layers without the classifier
    step = PruneStep(config_of(model_folder, method=None, embedder=embedder))
    found = step.run(question.text, passages)
    pruner = AT2Pruner(step.pruner.language_model, DenseScorer(tiny_reranker))
    assert step.pruner.scorer.name == "dense"
    assert found.scores == pytest.approx(pruner.score(question.text, passages))
    assert PruneStep(config_of(model_folder, embedder=embedder)).pruner.scorer.name == "average_attention"
    monkeypatch.setenv("HOME", str(tiny_reranker.parent))
    home = PruneStep(config_of(model_folder, method="dense", embedder=f"~/{tiny_reranker.name}"))
    assert home.run(question.text, passages).scores == pytest.approx(found.scores)
    other = shutil.copytree(tiny_reranker, tmp_path / "other")
    assert PruneStep(config_of(model_folder, method="dense", embedder=str(other))).pruner is not step.pruner
    PruneStep(PruneConfig(method="dense", embedder=embedder), pruner)
    with pytest.raises(InputError, match="embedder='some/embedder' contradicts the given pruner, which has '/"):
        PruneStep(PruneConfig(embedder="some/embedder"), pruner)


def test_the_embedder_of_fusion_by_config(embedded_lm: LanguageModel, tiny_reranker: Path) -> None:
    pruner = AT2Pruner.from_pretrained(embedded_lm, method="fusion", embedder=tiny_reranker)
    assert isinstance(pruner.scorer, FusionScorer)
    assert pruner.scorer.fallback.embedder == tiny_reranker  # type: ignore[attr-defined]
    PruneStep(PruneConfig(method="fusion", embedder=str(tiny_reranker)), pruner)


@pytest.mark.parametrize("pruner", ["x", 3, AT2Pruner])
def test_a_pruner_that_is_none(pruner: Any) -> None:
    with pytest.raises(InputError, match="pruner must be an AT2Pruner, got"):
        PruneStep(PruneConfig(), pruner)


def test_a_step_without_a_config_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT2_PRUNE", "off")
    assert not PruneStep().config.enabled
    assert PruneStep(PruneConfig()).config.enabled
