"""Encoders that cannot be used are named, before a question is read where this can be known then."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from at2_prune.errors import InputError, ModelNotSupportedError
from at2_prune.models.language_model import LanguageModel
from at2_prune.scorers import CrossEncoderScorer, DenseScorer
from at2_prune.scorers.base import Scorer

from .onnx_models import write_embedder, write_reranker
from .test_scorers_text import PASSAGES, task

KINDS = [CrossEncoderScorer, DenseScorer]


@pytest.fixture
def larger(tiny_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer with a token that no encoder of these tests embeds."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens(["Canberra"])
    return tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_of_another_encoder(
    kind: type[Any], tiny_reranker: Path, larger: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    AutoModelForSequenceClassification.from_pretrained(tiny_reranker).save_pretrained(tmp_path / "encoder")
    larger.save_pretrained(tmp_path / "encoder")
    scorer: Scorer = kind(tmp_path / "encoder")
    for load in (lambda: scorer.check("tiny"), lambda: scorer.prepare(torch.device("cpu"))):
        with pytest.raises(
            InputError, match=r"encoder '.*encoder': .* makes token \d+, but its embedding has only \d+"
        ):
            load()


@pytest.mark.parametrize(("kind", "write"), [(CrossEncoderScorer, write_reranker), (DenseScorer, write_embedder)])
def test_a_tokenizer_of_another_encoder_in_onnx_format(
    kind: type[Any],
    write: Any,
    tiny_tokenizer: PreTrainedTokenizerFast,
    larger: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime", reason='needs pip install "at2-prune[onnx]"')
    write(tmp_path / "encoder", tiny_tokenizer)
    larger.backend_tokenizer.save(str(tmp_path / "encoder" / "tokenizer.json"))
    with pytest.raises(InputError, match=r"encoder '.*encoder': .* makes token \d+, which the model cannot run"):
        kind(tmp_path / "encoder").check("tiny")


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_with_weights_that_are_no_numbers(
    kind: type[Any],
    tiny_reranker: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tiny_lm: LanguageModel,
    tmp_path: Path,
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_reranker)
    model.bert.embeddings.LayerNorm.weight.data[0] = torch.nan
    model.save_pretrained(tmp_path / "encoder")
    tiny_tokenizer.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ModelNotSupportedError, match=r"the encoder .*encoder'\)? computes numbers that are not finite"):
        kind(tmp_path / "encoder").score(task(tiny_lm, PASSAGES))
