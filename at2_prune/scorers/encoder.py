"""The encoders that some scorers load in addition to the language model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, reason_of
from ..models.hub import check_reachable

__all__ = ["Encoder", "encoder_config"]


class Encoder:
    """An encoder and its tokenizer.

    Args:
        auto_class: `AutoModel` or another Auto class of transformers.
        name: the encoder's Hub id or path.
        device: the device that the encoder runs on.

    Raises:
        InputError: the encoder cannot be loaded, or it comes with Python code of its own, which is not run.
    """

    def __init__(self, auto_class: Any, name: str | os.PathLike[str], device: torch.device) -> None:
        path = os.path.expanduser(os.fspath(name))
        check_reachable(path, ["config.json"])
        with _errors(name):
            self.tokenizer = _load_tokenizer(path)
            self.model: PreTrainedModel = auto_class.from_pretrained(path, trust_remote_code=False).eval().to(device)
        positions = getattr(self.model.config, "max_position_embeddings", None) or 512
        self.max_length = min(self.tokenizer.model_max_length, positions)

    @torch.inference_mode()
    def __call__(self, *texts: list[str]) -> tuple[Any, torch.Tensor]:
        """Run texts or pairs of texts, cut to the encoder's length. Return the output and the attention mask."""
        batch = self.tokenizer(*texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        batch = batch.to(self.model.device)
        return self.model(**batch), batch["attention_mask"]


def encoder_config(name: str | os.PathLike[str]) -> PretrainedConfig:
    """Return the config of an encoder. The tokenizer is read too, as a check, but no weights are loaded.

    Raises:
        InputError: as `Encoder`.
    """
    path = os.path.expanduser(os.fspath(name))
    check_reachable(path, ["config.json"])
    with _errors(name):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        _load_tokenizer(path)
    return config


def _load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    # If a folder has no tokenizer files, transformers makes a tokenizer that knows no words.
    if set(tokenizer("a passage", add_special_tokens=False)["input_ids"]) <= set(tokenizer.all_special_ids):
        raise ValueError("it has no tokenizer files: copy them from the model")
    return tokenizer


@contextmanager
def _errors(name: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers and safetensors raise errors of many types
        reason = reason_of(error)
        if "trust_remote_code" in str(error):
            reason = "it comes with Python code of its own, which is not run; use another encoder"
        raise InputError(f"cannot load the encoder {os.fspath(name)!r}: {reason}") from error
