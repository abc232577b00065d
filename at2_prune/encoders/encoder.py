"""Encoders that the package transformers runs, with their tokenizers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, ModelNotSupportedError, reason_of
from ..models.fingerprint import fingerprint
from ..models.hub import check_reachable

__all__ = ["Encoder", "encoder_config", "finite"]


class Encoder:
    """An encoder and its tokenizer.

    Args:
        auto_class: `AutoModel` or another Auto class of transformers.
        name: the encoder's Hub id or path.
        device: the device that the encoder runs on.

    Raises:
        InputError: the encoder cannot be loaded, its tokenizer has more tokens than its embedding, or the encoder comes
            with Python code. Such code is not run.
    """

    def __init__(self, auto_class: Any, name: str | os.PathLike[str], device: torch.device) -> None:
        path = os.path.expanduser(os.fspath(name))
        check_reachable(path, ["config.json"])
        with _errors(name):
            self.tokenizer = _load_tokenizer(path)
            self.model: PreTrainedModel = auto_class.from_pretrained(path, trust_remote_code=False).eval().to(device)
            _check_vocabulary(self.tokenizer, self.model.config)
        positions = getattr(self.model.config, "max_position_embeddings", None) or 512
        self.max_length = min(self.tokenizer.model_max_length, positions)

    @property
    def fingerprint(self) -> str:
        """A digest of the weights."""
        return fingerprint(self.model)

    @torch.inference_mode()
    def __call__(self, *texts: list[str]) -> tuple[Any, torch.Tensor]:
        """Run texts or pairs of texts, and return the output and the attention mask.

        Texts that are longer than the encoder's maximum input are cut.
        """
        batch = self.tokenizer(*texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        batch = batch.to(self.model.device)
        return self.model(**batch), batch["attention_mask"]


def encoder_config(name: str | os.PathLike[str]) -> PretrainedConfig:
    """Return the config of an encoder, and check its tokenizer. No weights are loaded.

    Raises:
        InputError: as in `Encoder`.
    """
    path = os.path.expanduser(os.fspath(name))
    check_reachable(path, ["config.json"])
    with _errors(name):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        _check_vocabulary(_load_tokenizer(path), config)
    return config


def finite(values: torch.Tensor, encoder: str | os.PathLike[str]) -> torch.Tensor:
    """Return the values that an encoder computed, if all of them are finite.

    Raises:
        ModelNotSupportedError: a value is not finite.
    """
    if not bool(values.isfinite().all()):
        raise ModelNotSupportedError(
            f"the encoder {os.fspath(encoder)!r} computes numbers that are not finite: its weights are damaged, "
            "or its values overflow; get a new copy of the encoder, or use another encoder"
        )
    return values


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    embedded = getattr(config, "vocab_size", None)
    last = max(tokenizer.get_vocab().values())
    if embedded is not None and last >= embedded:
        raise ValueError(
            f"its tokenizer makes token {last}, but its embedding has only {embedded} tokens, so the tokenizer belongs "
            "to another model: copy the tokenizer from the encoder's source"
        )


def _load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    # If a folder has no tokenizer files, transformers makes a tokenizer that knows no words.
    if set(tokenizer("a passage", add_special_tokens=False)["input_ids"]) <= set(tokenizer.all_special_ids):
        raise ValueError("it has no tokenizer files: copy them from the encoder's source")
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
