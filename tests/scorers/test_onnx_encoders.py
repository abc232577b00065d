"""Rerankers and embedders in ONNX format, on tiny models whose outputs numpy computes too."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from at2_prune.encoders.onnx_encoder import OnnxEncoder
from at2_prune.errors import InputError, MissingExtraError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.scorers import CrossEncoderScorer, DenseScorer

from .onnx_models import embeddings, write_embedder, write_reranker
from .test_scorers_text import PASSAGES, QUESTION, task

pytest.importorskip("onnxruntime", reason='needs pip install "at2-prune[onnx]"')

LONG = Passage("Canberra and Sydney quarrel. " * 90, title="Quarrels")


@pytest.fixture
def reranker(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    return write_reranker(tmp_path / "reranker", tiny_tokenizer)


@pytest.fixture
def embedder(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    return write_embedder(tmp_path / "embedder", tiny_tokenizer)


def test_a_cross_encoder_reads_pairs(
    tiny_lm: LanguageModel, tiny_tokenizer: PreTrainedTokenizerFast, reranker: Path
) -> None:
    table = embeddings(tiny_tokenizer)
    first = tiny_tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    expected = []
    for passage in [*PASSAGES, LONG]:
        text = f"{passage.title}. {passage.text}" if passage.title else passage.text
        second = tiny_tokenizer(text, add_special_tokens=False)["input_ids"][: 512 - len(first)]
        assert (len(first) + len(second) == 512) == (passage is LONG)
        total = table[first].sum(0) + 2 * table[second].sum(0)
        expected.append(float(total[0]) / len(first + second))
    scores = CrossEncoderScorer(str(reranker)).score(task(tiny_lm, [*PASSAGES, LONG]))
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-5, rtol=0)
    assert scores.std() > 1e-3
    assert CrossEncoderScorer(reranker).score(task(tiny_lm, [])).shape == (0,)


def test_an_embedder_is_read_as_bge(
    tiny_lm: LanguageModel, tiny_tokenizer: PreTrainedTokenizerFast, embedder: Path
) -> None:
    table = embeddings(tiny_tokenizer)
    texts = [
        f"Represent this sentence for searching relevant passages: {QUESTION}",
        "Canberra Canberra hosts parliament. Canberra grew slowly.",
        "Sydney has a harbour bridge.",
        "Perth Perth lies west, far from Canberra and Sydney.",
        f"Quarrels {LONG.text}",
    ]
    ids = [tiny_tokenizer(text)["input_ids"][:512] for text in texts]
    states = np.stack([table[some[0]] + table[some].mean(0) for some in ids])
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    scores = DenseScorer(embedder).score(task(tiny_lm, [*PASSAGES, LONG]))
    np.testing.assert_allclose(scores, states[1:] @ states[0], atol=1e-5)
    assert DenseScorer(str(embedder)).score(task(tiny_lm, [])).shape == (0,)


def test_padding_and_length_in_the_tokenizer_do_not_count(tiny_lm: LanguageModel, reranker: Path) -> None:
    """The tokenizers of published ONNX folders often pad every text to 512 tokens."""
    expected = CrossEncoderScorer(reranker).score(task(tiny_lm))
    tokenizer = Tokenizer.from_file(str(reranker / "tokenizer.json"))
    tokenizer.enable_padding(length=512)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(reranker / "tokenizer.json"))
    assert torch.equal(CrossEncoderScorer(reranker).score(task(tiny_lm)), expected)


def test_folders_that_cannot_be_used(
    tiny_lm: LanguageModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, reranker: Path, embedder: Path
) -> None:
    three = write_reranker(tmp_path / "three", tiny_tokenizer, outputs=3)
    bare, broken, mean = (shutil.copytree(embedder, tmp_path / name) for name in ("bare", "broken", "mean"))
    (bare / "tokenizer.json").unlink()
    (broken / "model.onnx").write_bytes(b"no model")
    (mean / "1_Pooling").mkdir()
    (mean / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": false}')
    for scorer, message in (
        (CrossEncoderScorer(bare), r"the ONNX folder '.*bare' has no tokenizer\.json: copy it from the model's source"),
        (DenseScorer(broken), r"cannot load the encoder '.*broken': \w+: "),
        (
            CrossEncoderScorer(three),
            r"three' gives an output of shape \(3,\) for a text; a reranker must have one output",
        ),
        (CrossEncoderScorer(embedder), r"embedder' gives an output of shape \(\d+, 6\)"),
        (DenseScorer(reranker), r"reranker' gives an output of shape \(1,\) for a text; an embedder must give one row"),
        (DenseScorer(mean), r"mean' must pool by its first token, but .*config\.json asks for other pooling"),
    ):
        with pytest.raises(InputError, match=message):
            scorer.prepare(tiny_lm.device)
    (mean / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    DenseScorer(mean).prepare(tiny_lm.device)


def test_a_model_with_another_input(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    import onnx

    path = write_embedder(tmp_path / "embedder", tiny_tokenizer) / "model.onnx"
    model = onnx.load(path)
    model.graph.input[0].name = model.graph.node[0].input[1] = "position_ids"
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"cannot load the encoder '.*': ValueError: Required inputs .*position_ids"):
        OnnxEncoder(tmp_path / "embedder")


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch, tiny_lm: LanguageModel, reranker: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'needs onnxruntime, .* pip install "at2-prune\[onnx\]"'):
        CrossEncoderScorer(reranker).score(task(tiny_lm))


def test_encoders_travel(tiny_lm: LanguageModel, reranker: Path) -> None:
    scorer = CrossEncoderScorer(reranker)
    expected = scorer.score(task(tiny_lm))
    for copied in (copy.deepcopy(scorer), pickle.loads(pickle.dumps(scorer))):
        assert torch.equal(copied.score(task(tiny_lm)), expected)


def test_a_forked_process_takes_an_encoder(reranker: Path) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    encoder = OnnxEncoder(reranker)
    expected = encoder(QUESTION, PASSAGES[0].text).tolist()
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    child = context.Process(target=lambda: found.put(encoder(QUESTION, PASSAGES[0].text).tolist()))
    child.start()
    assert found.get(timeout=60) == expected
    child.join()
