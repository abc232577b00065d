"""Loads a model and its tokenizer by Hub id or path. The errors say what to do."""

from __future__ import annotations

import importlib.util
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
from ..parsing import parse_json
from .compatibility import check_causal, check_class, loading_options
from .default_model import EMBEDDED_MODEL_ID, embedded_tokenizer
from .hub import check_reachable, repository_files, repository_folder
from .templates import default_template
from .text_codec import TextCodec

__all__ = ["check_model", "choose_device", "choose_dtype", "load_config", "load_weights"]

ADAPTER_CONFIG = "adapter_config.json"
"""The file that marks a folder or a repository as a PEFT adapter. Without peft, transformers would ignore the adapter,
so at2-prune looks for this file itself."""
ADAPTER_FILES = ("adapter_model.*", "*.json", "*.jinja", "tokenizer.model", "merges.txt")
"""The patterns of the other files of an adapter."""
TEXT_FILES = ("*.json", "*.jinja")
"""The patterns of the files that may lie beside a GGUF file: config, tokenizer, and chat template."""
HUB_OPTIONS = {"revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder", "gguf_file"}
"""The options of `from_pretrained` that apply to config, weights and tokenizer alike."""


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the device to use. `None` means CUDA if available, else Apple's MPS if available, else the CPU.

    Raises:
        InputError: the device is unknown, or this machine has no such device.
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
    """Return the precision of the weights. `None` means float32 on the CPU and bfloat16 on other devices.

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
        path: a Hub id or a folder. A PEFT adapter there, such as LoRA, is merged into its base model.
        embedded: whether the folder holds the embedded model. `embedded_tokenizer` then loads its tokenizer faster.
        dtype: the precision of the weights.
        model_options: options for `AutoModelForCausalLM.from_pretrained`.

    Raises:
        InputError: there is no such model, or its weights or its tokenizer cannot be read. The error is also raised if
            the model comes with Python code of its own and `trust_remote_code=True` is not among the options.
        ModelNotSupportedError: the model is not a causal language model.
        MissingExtraError: the path or the Hub id holds a PEFT adapter, and peft is not installed.
    """
    model_options = {"trust_remote_code": False, **model_options}  # else transformers asks whether to run remote code
    hub_options = {key: value for key, value in model_options.items() if key in HUB_OPTIONS}
    gguf_file = model_options.get("gguf_file")
    check_reachable(path, [gguf_file] if gguf_file else ["config.json", ADAPTER_CONFIG], hub_options)
    if (adapter := _adapter_folder(path, hub_options)) is not None:
        return _load_adapter(path, adapter, dtype, model_options)
    source = path
    if gguf_file and (folder := repository_folder(path, gguf_file, TEXT_FILES, hub_options)) is not None:
        # If transformers got the Hub id, it would look for the tokenizer without cache_dir, revision and token.
        source, hub_options, model_options = str(folder), _in_folder(hub_options), _in_folder(model_options)
    config = _read_config(path, source, hub_options)
    try:
        loading: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, output_loading_info=True, **{**loading_options(config), **model_options}
        )
        model, loaded = loading
        tokenizer = embedded_tokenizer(path) if embedded else AutoTokenizer.from_pretrained(source, **hub_options)
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
    """Check the config, the tokenizer and the chat template of a model, without its weights.

    The embedded model is not checked. For a PEFT adapter, the only check is whether peft is installed.

    Raises:
        InputError, ModelNotSupportedError, MissingExtraError: for the same reasons as in `LanguageModel.load`.
    """
    path = os.path.expanduser(os.fspath(name))
    if path == EMBEDDED_MODEL_ID or load_config(path, {}) is None:
        return
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


def load_config(path: str, model_options: dict[str, Any]) -> PretrainedConfig | None:
    """Load a model's config without its weights.

    The result is None for a PEFT adapter, because the model's config belongs to the base model. It is also None for a
    GGUF file, because it takes long to read the config from such a file.

    Raises:
        InputError, ModelNotSupportedError, MissingExtraError: for the same reasons as in `load_weights`.
    """
    hub_options = {"trust_remote_code": False}
    hub_options |= {key: value for key, value in model_options.items() if key in HUB_OPTIONS}
    if model_options.get("gguf_file"):
        return None
    check_reachable(path, ["config.json", ADAPTER_CONFIG], hub_options)
    if _adapter_folder(path, hub_options) is not None:
        _need_peft(path)
        return None
    return _read_config(path, path, hub_options)


def _read_config(path: str, source: str, hub_options: dict[str, Any]) -> PretrainedConfig:
    """Read the config in `source`, and check that it belongs to a causal language model. Errors name `path`."""
    try:
        config = AutoConfig.from_pretrained(source, **hub_options)
    except Exception as error:  # transformers and huggingface_hub raise errors of many types
        _refuse_remote_code(path, error)
        _name_gguf_file(path, hub_options, error)
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


def _adapter_folder(path: str, hub_options: dict[str, Any]) -> Path | None:
    """Return the folder with the files of a PEFT adapter. It is None if the path or Hub id holds no adapter."""
    folder = Path(path, hub_options.get("subfolder") or "")
    if (folder / ADAPTER_CONFIG).is_file():
        return folder
    return repository_folder(path, ADAPTER_CONFIG, ADAPTER_FILES, hub_options)


def _need_peft(path: str) -> None:
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("peft", "", f"{path!r} is a PEFT adapter. Loading it", "pip install peft")


def _in_folder(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options without `revision` and `subfolder`, which locate files inside a repository."""
    return {name: value for name, value in options.items() if name not in ("revision", "subfolder")}


def _load_adapter(
    path: str, folder: Path, dtype: torch.dtype, model_options: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base model of a PEFT adapter and merge the adapter's weights into it.

    Args:
        path: the folder or the Hub id that the user gave.
        folder: the folder with the adapter's files.
        dtype: the precision of the weights.
        model_options: as in `load_weights`. `subfolder` applies to the adapter and not to the base model. If `path` is
            a Hub id, the same holds for `revision`.

    Raises:
        InputError: the adapter or its base model cannot be read, or the adapter cannot be merged.
        MissingExtraError: peft is not installed.
    """
    _need_peft(path)
    from peft import PeftModel

    adapter = f"{path!r} is a PEFT adapter"
    file = folder / ADAPTER_CONFIG
    try:
        config = parse_json(read_text(file))
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{file}: not the config of an adapter ({reason_of(error)})") from error
    if not base or str(base) == path or Path(base).resolve() == folder.resolve():
        raise InputError(f"{adapter}, but base_model_name_or_path in {file} is {base!r}; name its base model there")
    given = model_options.get("revision") if Path(path).exists() else None  # a Hub id's revision is for the adapter
    options = {**_in_folder(model_options), **({"revision": given or revision} if given or revision else {})}
    model, tokenizer = load_weights(str(base), False, dtype, options)
    try:
        merged: Any = PeftModel.from_pretrained(model, str(folder))
        if not hasattr(merged, "merge_and_unload"):
            kind = next(iter(merged.peft_config.values())).peft_type.value
            raise InputError(
                f"{adapter} of type {kind}, which adds tokens of its own to the prompt; use a LoRA adapter"
            )
        model = merged.merge_and_unload()
        if (folder / "tokenizer.json").is_file():  # training may have added tokens or a chat template
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except InputError:
        raise
    except Exception as error:  # peft raises errors of many types
        raise InputError(f"{adapter} that cannot be merged into {base!r} ({reason_of(error)})") from error
    return model, tokenizer


def _refuse_remote_code(path: str, error: Exception) -> None:
    """Raise an `InputError` if `error` says that transformers refused to run code that comes with a model."""
    if "trust_remote_code" in str(error):
        raise InputError(
            f"cannot load model {path!r}: it comes with Python code of its own, which is not run by default; read "
            "that code, and pass trust_remote_code=True to run it, or use another model"
        ) from error


def _name_gguf_file(path: str, hub_options: dict[str, Any], error: Exception) -> None:
    """Raise an `InputError` that says how to load a GGUF file, if the path leads to such a file.

    The path may be a GGUF file, a folder with a GGUF file, or a Hub repository with a GGUF file. For any other path,
    nothing is raised.
    """
    given = Path(path)
    if given.suffix == ".gguf" and given.is_file():
        place, files = str(given.parent), [given.name]
    else:
        place = path
        files = sorted(file.name for file in given.iterdir()) if given.is_dir() else repository_files(path, hub_options)
    named = [file for file in files if file.endswith(".gguf")]
    if named:
        raise InputError(
            f"cannot load model {path!r}: weights in GGUF are loaded by the name of their file; load {place!r} with "
            f"gguf_file={named[0]!r}, which needs pip install gguf accelerate"
        ) from error


if hasattr(os, "register_at_fork"):
    # After a fork, OpenMP in the new process would wait forever for threads that exist only in the old process.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
