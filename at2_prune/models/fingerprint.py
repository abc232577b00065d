"""Identifies a model by its weights, because one model may have several names."""

from __future__ import annotations

import hashlib

import torch
from transformers import PreTrainedModel

__all__ = ["fingerprint"]


def fingerprint(model: PreTrainedModel) -> str:
    """Return a digest of a model's type and of some entries of each weight tensor."""
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        some = flat[:: max(1, len(flat) // 64)][:64].to("cpu", torch.float32)
        digest.update(f"{name} {tuple(weight.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:32]
