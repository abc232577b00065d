"""Load the two models of a pruner: the scoring model, and the reader. The reader writes drafts and answers."""

from __future__ import annotations

import os
from typing import Any

import torch

from ..errors import InputError, ModelNotSupportedError
from ..models.language_model import LanguageModel
from ..models.loading import check_model
from ..models.prompts import PromptTemplate
from ..models.shared_models import shared_model

__all__ = ["ReaderLike", "check_reader", "load_reader", "load_scoring_model"]

ReaderLike = str | os.PathLike[str] | LanguageModel | None
"""A reader: a Hub id or path, or a loaded model. With None, the scoring model is also the reader."""


def check_reader(reader: Any, model: str | os.PathLike[str] | LanguageModel | None = None) -> None:
    """Check the reader's config, tokenizer and chat template, without loading a model.

    Args:
        reader: the reader.
        model: the scoring model, or its name. If the reader has the same name, nothing is checked.

    Raises:
        InputError: the reader is neither a name nor a model, there is no such model, or its files cannot be read.
        ModelNotSupportedError: the reader is not a causal language model, or its tokenizer or chat template cannot be
            used.
    """
    if reader is None or isinstance(reader, LanguageModel):
        return
    if not isinstance(reader, (str, os.PathLike)) or not os.fspath(reader).strip():
        raise InputError(f"reader must be a model's id or path, or a LanguageModel, got {reader!r:.80}")
    if _path(reader) == (model.name if isinstance(model, LanguageModel) else model and _path(model)):
        return
    try:
        check_model(reader)
    except (InputError, ModelNotSupportedError) as error:
        raise type(error)(f"the reader cannot be used: {error}") from error


def load_reader(
    reader: ReaderLike,
    language_model: LanguageModel,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LanguageModel:
    """Return the reader, and load it if it was given by name.

    If the reader has the same name as the scoring model, the scoring model is returned and nothing is loaded.

    Args:
        reader: the reader.
        language_model: the scoring model.
        device: the device for a reader that is loaded by name; see `LanguageModel.load`.
        dtype: the precision for a reader that is loaded by name.

    Raises:
        InputError, ModelNotSupportedError, MissingExtraError: as in `LanguageModel.load`.
    """
    if isinstance(reader, LanguageModel):
        return reader
    if reader is None or _path(reader) == language_model.name:
        return language_model
    try:
        return shared_model(reader, device, dtype)
    except (InputError, ModelNotSupportedError) as error:
        raise type(error)(f"the reader cannot be used: {error}") from error


def _path(name: str | os.PathLike[str]) -> str:
    return os.path.expanduser(os.fspath(name))


def load_scoring_model(
    model: str | os.PathLike[str] | LanguageModel | None,
    reader: ReaderLike,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    template: PromptTemplate | None,
    model_options: dict[str, Any],
) -> LanguageModel:
    """Return the scoring model, and load it if it was given by name.

    A model that is given without `template` and `model_options` is loaded once for each process, device and dtype.

    Args:
        model: the scoring model; see `LanguageModel.load`. The arguments `device`, `dtype`, `template` and
            `model_options` are passed to `LanguageModel.load`.
        reader: the reader. `device` and `dtype` also apply to a reader that is given by name. With such a reader, they
            are accepted even if the scoring model is loaded already.

    Raises:
        InputError: the scoring model is loaded already, and an option that only loading can use is given.
        InputError, ModelNotSupportedError, MissingExtraError: as in `LanguageModel.load`.
    """
    if isinstance(model, LanguageModel):
        given = {"template": template, **model_options}
        if reader is None or isinstance(reader, LanguageModel):
            given |= {"device": device, "dtype": dtype}
        ignored = sorted(name for name, value in given.items() if value is not None)
        if ignored:
            raise InputError(f"{', '.join(ignored)} can only be used to load a model, but a loaded model was given")
        return model
    if template is None and not model_options:
        return shared_model(model, device, dtype)
    return LanguageModel.load(model, device=device, dtype=dtype, template=template, **model_options)
