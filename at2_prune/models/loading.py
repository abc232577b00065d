"""Loading a model and its tokenizer by Hub id or path, with errors that say what to do."""

from __future__ import annotations

import importlib.util
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..errors import InputError, MissingExtraError, ModelNotSupportedError, reason_of
from ..files import read_text
from .compatibility import check_causal, check_class, loading_options
from .default_model import EMBEDDED_MODEL_ID, embedded_tokenizer
from .hub import check_reachable
from .templates import default_template
from .text_codec import TextCodec

__all__ = ["check_model", "choose_device", "choose_dtype", "load_weights"]

ADAPTER_CONFIG = "adapter_config.json"
"""The file that makes a folder a PEFT adapter. transformers would ignore the adapter if peft is not installed."""
HUB_OPTIONS = {"revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder", "gguf_file"}
"""The options of `from_pretrained` that apply to config, weights and tokenizer alike."""


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the device to use. With `None`, it is CUDA if available, else Apple's MPS if available, else the CPU.

    Raises:
        InputError: the device is unknown, or this machine does not have it.
    """
    if device is None:
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        if torch.device(device).type == "meta":
            raise InputError("device 'meta' holds no numbers; use cpu, cuda or mps")
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from None


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the precision of the weights. With `None`, it is float32 on the CPU and bfloat16 elsewhere.

    Raises:
        InputError: the precision is unknown, or it is not a floating-point type.
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
        path: a Hub id, or a folder. A PEFT adapter, such as LoRA, in the folder is merged into the base model.
        embedded: whether the folder holds the embedded model. Its tokenizer can be read faster.
        dtype: the precision of the weights.
        model_options: options for `AutoModelForCausalLM.from_pretrained`.

    Raises:
        InputError: there is no such model, or its weights or tokenizer cannot be read. It is also raised if the model
            needs code of its own and `trust_remote_code=True` is not among the options.
        ModelNotSupportedError: the model is not a causal language model.
        MissingExtraError: the folder holds a PEFT adapter, and peft is not installed.
    """
    model_options = {"trust_remote_code": False, **model_options}  # without this, transformers asks the user
    hub_options = {key: value for key, value in model_options.items() if key in HUB_OPTIONS}
    if (adapter := Path(path) / ADAPTER_CONFIG).is_file():
        return _load_adapter(adapter, dtype, model_options)
    config = _load_config(path, hub_options)
    try:
        loading: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **{**loading_options(config), **model_options}
        )
        model, loaded = loading
        tokenizer = embedded_tokenizer(path) if embedded else AutoTokenizer.from_pretrained(path, **hub_options)
    except Exception as error:  # transformers, safetensors and others raise errors of many types
        _refuse_remote_code(path, error)
        raise InputError(
            f"cannot load model {path!r}: its weights or its tokenizer cannot be read ({reason_of(error)})"
        ) from error
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise InputError(f"cannot load model {path!r}: its weights lack {len(missing)} tensors ({missing[0]}, ...)")
    return model, tokenizer


def check_model(name: str | os.PathLike[str]) -> None:
    """Check what can be known of a model before its weights are loaded: its config, tokenizer and chat template.

    The embedded model and PEFT adapters are not checked.

    Raises:
        InputError, ModelNotSupportedError: as `LanguageModel.load`.
    """
    path = os.path.expanduser(os.fspath(name))
    if path == EMBEDDED_MODEL_ID or (Path(path) / ADAPTER_CONFIG).is_file():
        return
    _load_config(path, {"trust_remote_code": False})
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise errors of many types
        _refuse_remote_code(path, error)
        raise InputError(f"cannot load model {path!r}: its tokenizer cannot be read ({reason_of(error)})") from error
    try:
        TextCodec(tokenizer)
        default_template(tokenizer)
    except ModelNotSupportedError as error:
        raise ModelNotSupportedError(f"cannot load model {path!r}: {error}") from error


def _load_config(path: str, hub_options: dict[str, Any]) -> PretrainedConfig:
    """Load the config of a model and check that it is of a causal language model.

    Raises:
        InputError: there is no such model, or it comes with code of its own.
        ModelNotSupportedError: it is not a causal language model.
    """
    check_reachable(path, "config.json", hub_options)
    try:
        config = AutoConfig.from_pretrained(path, **hub_options)
    except Exception as error:  # a config is read by code of many kinds
        _refuse_remote_code(path, error)
        _name_gguf_file(path, error)
        raise InputError(
            f"cannot load model {path!r}: it is neither a folder with a model nor a model that the Hub gives "
            f"access to ({reason_of(error)})"
        ) from error
    try:
        check_causal(config)
        check_class(config)
    except ModelNotSupportedError as error:
        raise ModelNotSupportedError(f"cannot load model {path!r}: {error}") from None
    return config


def _load_adapter(
    file: Path, dtype: torch.dtype, model_options: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base model of a PEFT adapter and merge the adapter's weights into it.

    Raises:
        InputError: the adapter or its base model cannot be read, or the adapter cannot be merged.
        MissingExtraError: peft is not installed.
    """
    folder = str(file.parent)
    adapter = f"{folder!r} is a PEFT adapter"
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("peft", "", f"{adapter}. Loading it", "pip install peft")
    from peft import PeftModel

    try:
        base = json.loads(read_text(file)).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{file}: not the config of an adapter ({reason_of(error)})") from error
    if not base or Path(base).resolve() == file.parent.resolve():
        raise InputError(f"{adapter}, but base_model_name_or_path in {file} is {base!r}; name its base model there")
    model, tokenizer = load_weights(str(base), False, dtype, model_options)
    try:
        merged = PeftModel.from_pretrained(model, folder)
        if not hasattr(merged, "merge_and_unload"):
            kind = next(iter(merged.peft_config.values())).peft_type.value
            raise InputError(
                f"{adapter} of type {kind}, which adds tokens of its own to the prompt; use a LoRA adapter"
            )
        model = merged.merge_and_unload()
        if (file.parent / "tokenizer.json").is_file():  # training may have added tokens or a chat template
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except InputError:
        raise
    except Exception as error:  # peft raises errors of many types
        raise InputError(f"{adapter} that cannot be merged into {base!r} ({reason_of(error)})") from error
    return model, tokenizer


def _refuse_remote_code(path: str, error: Exception) -> None:
    """Raise an `InputError` if transformers refused to run code that comes with a model."""
    if "trust_remote_code" in str(error):
        raise InputError(
            f"cannot load model {path!r}: it comes with Python code of its own, which is not run by default; read "
            "that code, and pass trust_remote_code=True to run it, or use another model"
        ) from error


def _name_gguf_file(path: str, error: Exception) -> None:
    """Raise an `InputError` that says how to load a GGUF file, if the path is a GGUF file or a folder with one."""
    given = Path(path)
    file = given if given.suffix == ".gguf" else min(given.glob("*.gguf"), default=None) if given.is_dir() else None
    if file is not None:
        raise InputError(
            f"cannot load model {path!r}: weights in GGUF are loaded by the name of their file; load "
            f"{str(file.parent)!r} with gguf_file={file.name!r}, which needs pip install gguf accelerate"
        ) from error


if hasattr(os, "register_at_fork"):
    # After a fork, OpenMP would wait forever in the new process, for threads that exist only in the old process.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
