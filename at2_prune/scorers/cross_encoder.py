"""Score sources by a cross-encoder, a reranker that reads the question and a source together."""

from __future__ import annotations

import os

import torch
from transformers import AutoModelForSequenceClassification

from ..encoders.encoder import Encoder, encoder_config, finite
from ..encoders.onnx_encoder import OnnxEncoder, is_onnx_folder
from ..errors import InputError
from .base import Scorer, ScorerOptions, Task

__all__ = ["CrossEncoderScorer"]


class CrossEncoderScorer(Scorer):
    """Scores sources by the output of a sequence classifier that reads the question and a source together.

    The classifier reads a source as "title. text". The maximum input of a model in ONNX format, and of most other
    models, is 512 tokens. If the question and a source together are longer, usually only the longer of the two is cut
    at its end. If each of the two is longer than half of the maximum, both are cut to half of the maximum.

    Args:
        model: a folder with `model.onnx` and `tokenizer.json`, which onnxruntime runs on the CPU. Any other name is a
            Hub id or path for transformers, for example `cross-encoder/ms-marco-MiniLM-L6-v2`.
        batch_size: the number of pairs of question and source in a batch. A model in ONNX format reads the pairs one by
            one.

    The constructor does not load the model, so it raises none of the errors below. `check` loads an ONNX model. Any
    other model is loaded by `prepare` or by the first call of `score`.

    Raises:
        InputError: the model cannot be loaded, or it has more than one output.
        MissingExtraError: the model is in ONNX format, and onnxruntime is not installed.
    """

    name = "cross_encoder"
    reads_prompt = False

    def __init__(self, model: str | os.PathLike[str], batch_size: int = 32) -> None:
        self.model = model
        self.batch_size = batch_size
        self._encoder: Encoder | OnnxEncoder | None = None

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> CrossEncoderScorer:
        if options.cross_encoder is None:
            raise InputError(
                "the method cross_encoder needs a reranker's Hub id or path, or a folder with model.onnx and "
                "tokenizer.json: pass the reranker as cross_encoder"
            )
        return cls(options.cross_encoder)

    def check(self, model: str) -> None:
        if is_onnx_folder(self.model):
            self._load(torch.device("cpu"))  # onnxruntime finds faults only when it loads the model
        else:
            self._check_labels(encoder_config(self.model).num_labels)

    def prepare(self, device: torch.device) -> None:
        self._load(device)

    def _load(self, device: torch.device) -> Encoder | OnnxEncoder:
        if self._encoder is None:
            encoder: Encoder | OnnxEncoder
            if is_onnx_folder(self.model):
                encoder = OnnxEncoder(self.model)
                if encoder.shape != (1,):
                    self._refuse(f"gives an output of shape {encoder.shape} for a text")
            else:
                encoder = Encoder(AutoModelForSequenceClassification, self.model, device)
                self._check_labels(encoder.model.config.num_labels)
            self._encoder = encoder
        return self._encoder

    def _check_labels(self, labels: int | None) -> None:
        if labels != 1:
            self._refuse(f"classifies into {labels} labels")

    def _refuse(self, fault: str) -> None:
        raise InputError(f"the reranker {os.fspath(self.model)!r} {fault}; a reranker must have one output")

    def score(self, task: Task) -> torch.Tensor:
        encoder = self._load(task.language_model.device)
        texts = task.texts_after_titles(". ")
        scores = [torch.empty(0)]
        if isinstance(encoder, OnnxEncoder):
            return finite(torch.cat([*scores, *(encoder(task.question, text) for text in texts)]), self.model)
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            scores.append(encoder([task.question] * len(batch), batch)[0].logits[:, 0].float().cpu())
        return finite(torch.cat(scores), self.model)
