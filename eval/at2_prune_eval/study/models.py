"""Load the models of a study, and describe models and devices for the study's files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from at2_prune.errors import AT2PruneError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.loading import check_model

from ..run.config import prompt_digest
from .settings import DEFAULT, Model, in_full

__all__ = ["checked_name", "describe_device", "describe_model", "load_language_model"]

SAMPLES = 64
"""A digest of weights reads about this many values of each parameter."""


def checked_name(settings: Model, role: str) -> str | None:
    """Check the config and tokenizer of a model, and return the name that `LanguageModel.load` takes.

    Args:
        settings: the model.
        role: the words that error messages use for the model, such as "reader qwen".

    Raises:
        InputError: the model cannot be used. The message begins with the role.
    """
    if settings.model == DEFAULT:
        return None
    name = in_full(settings, role).model
    try:
        check_model(name)
    except AT2PruneError as error:
        raise InputError(f"{role}: {error}") from error
    return name


def load_language_model(settings: Model, role: str) -> LanguageModel:
    """Load a model.

    Args:
        settings: the model.
        role: the words that error messages use for the model, such as "reader qwen".

    Raises:
        InputError: the model cannot be loaded. The message begins with the role.
    """
    name = None if settings.model == DEFAULT else in_full(settings, role).model
    try:
        return LanguageModel.load(name, dtype=settings.dtype)
    except AT2PruneError as error:
        raise InputError(f"{role}: {error}") from error


def describe_model(language_model: LanguageModel) -> dict[str, Any]:
    """Return the name, size, precision and prompt of a model, and a digest of its weights.

    The values are the same on every machine.
    """
    model, state = language_model.model, hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        some = flat[:: max(1, len(flat) // SAMPLES)].float().cpu()
        state.update(f"{name} {tuple(parameter.shape)}".encode() + some.numpy().tobytes())
    return {
        "model": Path(language_model.name).name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights": state.hexdigest()[:16],
        "dtype": str(model.dtype).removeprefix("torch."),
        "prompt": f"{language_model.template.name} {prompt_digest(language_model.template)}",
    }


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
