"""Encoders in ONNX format, which onnxruntime runs on the CPU."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
import torch

from ..errors import InputError, MissingExtraError, reason_of
from ..files import user_path

__all__ = ["OnnxEncoder", "is_onnx_folder"]

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
MAX_LENGTH = 512
"""The maximum number of tokens in a text or in a pair of texts. A longer input is cut."""


def is_onnx_folder(name: str | os.PathLike[str]) -> bool:
    """Return whether `name` is a folder with a file `model.onnx`."""
    return (user_path(name) / MODEL_FILE).is_file()


class OnnxEncoder:
    """An encoder in a folder with `model.onnx` and `tokenizer.json`.

    Threads may share an encoder. A copy loads the files again, and so does an encoder that is sent to another process.

    Args:
        folder: the folder.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        InputError: the folder has no tokenizer, the model or the tokenizer cannot be loaded or run, or the model has no
            embedding for the tokenizer's highest token id.
    """

    shape: tuple[int, ...]
    """The shape of the output for one text of a few tokens."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError(error.name or "onnxruntime", "onnx", "An encoder in ONNX format") from None
        self._folder = user_path(folder)
        file = self._folder / TOKENIZER_FILE
        if not file.is_file():
            raise InputError(
                f"the ONNX folder {str(folder)!r} has no {TOKENIZER_FILE}: copy it from the model's source"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
            self._tokenizer.enable_truncation(MAX_LENGTH)
            self._tokenizer.no_padding()
            self._session = onnxruntime.InferenceSession(
                str(self._folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
            )
            self._inputs = {value.name for value in self._session.get_inputs()}
            self.shape = tuple(self("a").shape)
            self._check_vocabulary()
        except Exception as error:  # onnxruntime and tokenizers raise errors of many types
            raise InputError(f"cannot load the encoder {str(folder)!r}: {reason_of(error)}") from error

    @property
    def fingerprint(self) -> str:
        """A digest of the model's file."""
        return hashlib.sha256((self._folder / MODEL_FILE).read_bytes()).hexdigest()[:32]

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxEncoder, (self._folder,)

    def __call__(self, text: str, second: str | None = None) -> torch.Tensor:
        """Run one text or one pair of texts, cut to 512 tokens. Return the first output, without its batch dimension.

        Texts are not run in batches. A model with dynamic quantization rounds the values of every text by the largest
        value in the batch, so the output for a text would depend on the other texts.
        """
        encoding = self._tokenizer.encode(text, second)
        values = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        return self._run(values)

    def _run(self, values: dict[str, list[int]]) -> torch.Tensor:
        feed = {name: np.array([row], dtype=np.int64) for name, row in values.items() if name in self._inputs}
        return torch.from_numpy(self._session.run(None, feed)[0][0]).float()

    def _check_vocabulary(self) -> None:
        """Run the token with the highest id. A token without an embedding raises an error in onnxruntime."""
        last = max(self._tokenizer.get_vocab().values())
        try:
            self._run({"input_ids": [last], "attention_mask": [1], "token_type_ids": [0]})
        except Exception as error:
            raise ValueError(
                f"its tokenizer makes token {last}, which the model cannot run, so the tokenizer belongs to another "
                f"model: copy {TOKENIZER_FILE} from the model's source"
            ) from error
