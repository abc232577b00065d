from __future__ import annotations

import multiprocessing
import re
from pathlib import Path

import pytest
import torch

from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.loading import load_coefficients
from at2_prune.errors import CoefficientsError, InputError
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
    with pytest.raises(
        CoefficientsError, match="no head coefficients of the method scout come with at2-prune for tiny"
    ):
        load_coefficients(tiny_lm)
    with pytest.raises(CoefficientsError, match=r"2 layers x 8 heads\).*2 layers x 4 heads"):
        load_coefficients(tiny_lm, HeadCoefficients.average(2, 8, "llama"))
    with pytest.raises(CoefficientsError, match="neither a folder"):
        load_coefficients(tiny_lm, tmp_path / "none")
    torch.save({"state_dict": {"linear.weight": torch.arange(8.0)[None]}}, tmp_path / "score_estimator.pt")
    imported = load_coefficients(tiny_lm, tmp_path / "score_estimator.pt")
    assert imported.weight.flatten().tolist() == list(map(float, range(8)))


def test_options_for_loading_are_refused_with_a_loaded_model(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="device, dtype"):
        AT2Pruner.from_pretrained(tiny_lm, method="average_attention", device="cpu", dtype="float32")


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
