"""A model is loaded once for each process, name, device and precision."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from at2_prune.errors import InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.loading import check_model
from at2_prune.models.shared_models import forget_models, shared_model


@pytest.fixture
def folder(tiny_lm: LanguageModel, tmp_path: Path) -> Path:
    for name in ("one", "two"):
        tiny_lm.model.save_pretrained(tmp_path / name / "model")
        tiny_lm.tokenizer.save_pretrained(tmp_path / name / "model")
    return tmp_path


def test_one_load_for_each_name_and_option(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "one" / "model"
    model = shared_model(path)
    assert shared_model(str(path), device="cpu", dtype="float32") is model
    assert shared_model(path, dtype=torch.bfloat16) is not model
    assert shared_model(folder / "two" / "model") is not model
    monkeypatch.setenv("HOME", str(folder))
    assert shared_model("~/one/model") is model
    os.utime(path / "model.safetensors", ns=(1, 2**62))  # trained again
    assert shared_model(path) is not model
    newer = shared_model(path)
    forget_models()
    assert shared_model(path) is not newer


def test_a_relative_path_is_that_of_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "one")
    os.utime("model/model.safetensors", ns=(1, 2**62))
    first = shared_model("model")
    monkeypatch.chdir(folder / "two")
    os.utime("model/model.safetensors", ns=(1, 2**62))
    assert shared_model("model") is not first


def test_what_is_known_of_a_model_before_its_weights_are_loaded(folder: Path) -> None:
    path = folder / "one" / "model"
    (path / "model.safetensors").unlink()
    check_model(path)
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="its tokenizer cannot be read"):
        check_model(path)
