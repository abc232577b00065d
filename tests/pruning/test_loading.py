from __future__ import annotations

import multiprocessing
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.loading import load_coefficients
from at2_prune.errors import AT2PruneError, CoefficientsError, InputError
from at2_prune.models import language_model
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import AttentionScorer

from .cases import PASSAGES, QUESTION


def test_from_pretrained_from_disk(tiny_pruner: AT2Pruner, tmp_path: Path) -> None:
    lm = tiny_pruner.language_model
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    coefficients: HeadCoefficients = tiny_pruner.scorer.coefficients  # type: ignore[attr-defined]
    coefficients.save_pretrained(tmp_path / "coefficients")
    pruner = AT2Pruner.from_pretrained(tmp_path / "model", tmp_path / "coefficients", device="cpu", max_new_tokens=8)
    result, expected = pruner.answer(QUESTION, PASSAGES, 2), tiny_pruner.answer(QUESTION, PASSAGES, 2)
    assert (result.scores, result.kept, result.answer) == (expected.scores, expected.kept, expected.answer)


def test_which_coefficients(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    average = AT2Pruner.from_pretrained(tiny_lm, method="average_attention", max_new_tokens=8)
    assert isinstance(average.scorer, AttentionScorer)
    equal = AT2Pruner.from_pretrained(tiny_lm, HeadCoefficients.average(2, 4), max_new_tokens=8)
    assert average.score(QUESTION, PASSAGES) == pytest.approx(equal.score(QUESTION, PASSAGES), abs=1e-6)
    with pytest.raises(CoefficientsError, match="no coefficients of the method scout come with at2-prune for tiny"):
        load_coefficients(tiny_lm)
    with pytest.raises(CoefficientsError, match=r"2 layers x 8 heads\).*2 layers x 4 heads"):
        load_coefficients(tiny_lm, HeadCoefficients.average(2, 8, "llama"))
    with pytest.raises(CoefficientsError, match="neither a folder"):
        load_coefficients(tiny_lm, tmp_path / "none")
    torch.save({"state_dict": {"linear.weight": torch.arange(8.0)[None]}}, tmp_path / "score_estimator.pt")
    imported = load_coefficients(tiny_lm, tmp_path / "score_estimator.pt")
    assert imported.weight.flatten().tolist() == list(map(float, range(8)))


def test_a_cross_encoder(tiny_lm: LanguageModel, tiny_reranker: Path) -> None:
    named = AT2Pruner.from_pretrained(tiny_lm, method="cross_encoder", cross_encoder=tiny_reranker)
    alone = AT2Pruner.from_pretrained(tiny_lm, cross_encoder=str(tiny_reranker))
    assert named.score(QUESTION, PASSAGES) == alone.score(QUESTION, PASSAGES)
    with pytest.raises(
        InputError, match="the method cross_encoder needs a reranker's Hub id or path, or a folder with"
    ):
        AT2Pruner.from_pretrained(tiny_lm, method="cross_encoder")
    with pytest.raises(InputError, match="coefficients and cross_encoder belong to different methods: name the"):
        AT2Pruner.from_pretrained(tiny_lm, HeadCoefficients.average(2, 4), cross_encoder=tiny_reranker)


def test_options_for_loading_are_refused_with_a_loaded_model(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="device, dtype"):
        AT2Pruner.from_pretrained(tiny_lm, method="average_attention", device="cpu", dtype="float32")


KINDS = {
    "at2": [RowGroup("draft")],
    "contribution_learned": [RowGroup("draft", measure="contribution")],
    "effective_attention_learned": [RowGroup("draft", measure="effective")],
}


@pytest.mark.parametrize("own", KINDS)
def test_a_method_and_coefficients_of_another_one(tiny_lm: LanguageModel, own: str, tmp_path: Path) -> None:
    HeadCoefficients(torch.ones(len(KINDS[own]), 2, 4), KINDS[own], model_type="llama").save_pretrained(tmp_path)
    assert AT2Pruner.from_pretrained(tiny_lm, tmp_path).scorer.name == own
    assert AT2Pruner.from_pretrained(tiny_lm, tmp_path, method=own).scorer.name == own
    for method in (name for name in KINDS if name != own):
        with pytest.raises(InputError, match=f"the method {method} needs .* given coefficients belong to {own}: use"):
            AT2Pruner.from_pretrained(tiny_lm, tmp_path, method=method)
    with pytest.raises(InputError, match=f"the method fusion needs coefficients of scout, .* belong to {own}"):
        AT2Pruner.from_pretrained(tiny_lm, tmp_path, method="fusion")
    with pytest.raises(InputError, match="the method bm25 uses no coefficients, but some were given"):
        AT2Pruner.from_pretrained(tiny_lm, tmp_path, method="bm25")


def test_paths_may_begin_with_the_home_folder(
    tiny_pruner: AT2Pruner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    lm = tiny_pruner.language_model
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    tiny_pruner.scorer.coefficients.save_pretrained(tmp_path / "coefficients")  # type: ignore[attr-defined]
    pruner = AT2Pruner.from_pretrained("~/model", "~/coefficients", max_new_tokens=8)
    assert pruner.language_model.name == str(tmp_path / "model")
    assert pruner.score(QUESTION, PASSAGES) == tiny_pruner.score(QUESTION, PASSAGES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"granularity": "token"},
        {"order": "best"},
        {"overflow": "truncate"},
        {"max_new_tokens": 0},
        {"method": "guess"},
        {"embedder": "some/embedder", "cross_encoder": "some/reranker"},
        {"embedder": "some/embedder", "coefficients": HeadCoefficients.average(2, 4)},
        {"coefficients": "no/such/folder"},
        {"device": "toaster"},
        {"dtype": "int8"},
    ],
)
def test_wrong_options_are_found_before_the_model_is_loaded(wrong: dict[str, Any], monkeypatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(language_model, "load_weights", load)
    monkeypatch.setattr(language_model, "embedded_model_path", load)
    with pytest.raises(AT2PruneError):
        AT2Pruner.from_pretrained(**wrong)


def test_a_gguf_file_is_loaded_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "model.q4.gguf"
    file.touch()
    for path in (tmp_path, file):
        with pytest.raises(InputError, match=re.escape(f"load {str(tmp_path)!r} with gguf_file='model.q4.gguf'")):
            LanguageModel.load(path)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_scores_with_the_loaded_model(tiny_pruner: AT2Pruner) -> None:
    """A child inherits one thread and the locks as they are; torch's thread pool must be of one thread."""
    context = multiprocessing.get_context("fork")
    threads, queue = torch.get_num_threads(), context.Queue()
    torch.set_num_threads(1)
    try:
        expected = tiny_pruner.score(QUESTION, PASSAGES)
        child = context.Process(target=lambda: queue.put(tiny_pruner.score(QUESTION, PASSAGES)))
        child.start()
        assert queue.get(timeout=60) == expected
        child.join(10)
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(threads)
