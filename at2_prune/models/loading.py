"""Loading a model and its tokenizer by Hub id or path, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError
from .compatibility import loading_options
from .default_model import embedded_tokenizer

__all__ = ["choose_device", "choose_dtype", "load_weights"]

HUB_OPTIONS = {"revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder", "gguf_file"}
"""The options of `from_pretrained` that hold for config, weights and tokenizer alike."""


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the device to use; None means CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: the device is unknown, or this machine has none.
    """
    if device is None:
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from None


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the precision to load weights in; None means float32 on the CPU and bfloat16 elsewhere.

    Raises:
        InputError: the precision is unknown, or it is not a floating-point one.
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InputError(f"dtype {dtype!r} is unknown; use float32, bfloat16 or float16")
    return kind


def load_weights(
    path: str, embedded: bool, dtype: torch.dtype, model_options: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer.

    Args:
        path: a Hub id, or a folder.
        embedded: whether the folder holds the embedded model, whose tokenizer can be read faster.
        dtype: the precision of the weights.
        model_options: passed to `AutoModelForCausalLM.from_pretrained`.

    Raises:
        InputError: there is no such model, its weights or its tokenizer cannot be read, or it needs code of its own
            and `trust_remote_code=True` is not among the options.
    """
    model_options = {"trust_remote_code": False, **model_options}  # without it, transformers asks at a terminal
    hub_options = {key: value for key, value in model_options.items() if key in HUB_OPTIONS}
    try:
        config = AutoConfig.from_pretrained(path, **hub_options)
    except (OSError, ValueError) as error:
        _refuse_remote_code(path, error)
        _name_gguf_file(path, error)
        raise InputError(
            f"cannot load model {path!r}: it is neither a folder with a model nor a model that the Hub gives "
            f"access to ({_first_line(error)})"
        ) from error
    try:
        loading: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **{**loading_options(config), **model_options}
        )
        model, loaded = loading
        tokenizer = embedded_tokenizer(path) if embedded else AutoTokenizer.from_pretrained(path, **hub_options)
    except Exception as error:  # transformers, safetensors, tokenizers and pickle raise many kinds
        _refuse_remote_code(path, error)
        raise InputError(
            f"cannot load model {path!r}: its weights or its tokenizer cannot be read ({_first_line(error)})"
        ) from error
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise InputError(f"cannot load model {path!r}: its weights lack {len(missing)} tensors ({missing[0]}, ...)")
    return model, tokenizer


def _refuse_remote_code(path: str, error: Exception) -> None:
    """Raise an `InputError` if transformers refused to run code that comes with a model."""
    if "trust_remote_code" in str(error):
        raise InputError(
            f"cannot load model {path!r}: it comes with Python code of its own, which is not run by default; read "
            "that code, and pass trust_remote_code=True to run it, or use another model"
        ) from error


def _name_gguf_file(path: str, error: Exception) -> None:
    """Raise an `InputError` that says how to load a GGUF file, if the path is one or a folder with one."""
    given = Path(path)
    file = given if given.suffix == ".gguf" else min(given.glob("*.gguf"), default=None) if given.is_dir() else None
    if file is not None:
        raise InputError(
            f"cannot load model {path!r}: weights in GGUF are loaded by the name of their file; load "
            f"{str(file.parent)!r} with gguf_file={file.name!r}, which needs pip install gguf accelerate"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
