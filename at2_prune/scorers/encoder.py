"""The encoders that some scorers load in addition to the language model."""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, reason_of
from ..models.hub import check_reachable

__all__ = ["Encoder"]


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
        check_reachable(name, ["config.json"])
        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            self.model: PreTrainedModel = auto_class.from_pretrained(name, trust_remote_code=False).eval().to(device)
        except Exception as error:  # transformers and safetensors raise errors of many types
            reason = reason_of(error)
            if "trust_remote_code" in str(error):
                reason = "it comes with Python code of its own, which is not run; use another encoder"
            raise InputError(f"cannot load the encoder {os.fspath(name)!r}: {reason}") from error
        positions = getattr(self.model.config, "max_position_embeddings", None) or 512
        self.max_length = min(self.tokenizer.model_max_length, positions)

    @torch.inference_mode()
    def __call__(self, *texts: list[str]) -> tuple[Any, torch.Tensor]:
        """Run texts or pairs of texts, cut to the encoder's length. Return the model's output and the attention
        mask."""
        batch = self.tokenizer(*texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        batch = batch.to(self.model.device)
        return self.model(**batch), batch["attention_mask"]
