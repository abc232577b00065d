"""An embedder: how it pools, and whether another embedder is the same one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoModel, AutoTokenizer

from at2_prune.encoders import embedder as embedder_module
from at2_prune.encoders.embedder import INSTRUCTION, PROBE_TOLERANCE, Embedder
from at2_prune.errors import InputError

TEXTS = ["Dinant lies on the Meuse.", "A reed is a plant that grows in water, and a part of a clarinet."]


def loaded(folder: Path) -> Embedder:
    embedder = Embedder(folder)
    embedder.check()
    embedder.load(torch.device("cpu"))
    return embedder


def states(folder: Path, text: str) -> torch.Tensor:
    """The last hidden states of one text, computed without the package."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        found: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return found


@pytest.fixture
def by_first_token(tiny_embedder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "by-first-token"
    shutil.copytree(tiny_embedder, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}), encoding="utf-8")
    return folder


def test_the_mean_by_default(tiny_embedder: Path) -> None:
    embedder = loaded(tiny_embedder)
    wanted = torch.stack([torch.nn.functional.normalize(states(tiny_embedder, text).mean(0), dim=0) for text in TEXTS])
    assert torch.allclose(embedder.passages(TEXTS), wanted, atol=1e-5)
    assert torch.allclose(embedder.question(TEXTS[0]), wanted[0], atol=1e-5)


def test_the_first_token_where_the_folder_asks_for_it(by_first_token: Path) -> None:
    embedder = loaded(by_first_token)
    wanted = [torch.nn.functional.normalize(states(by_first_token, text)[0], dim=0) for text in TEXTS]
    assert torch.allclose(embedder.passages(TEXTS), torch.stack(wanted), atol=1e-5)
    asked = torch.nn.functional.normalize(states(by_first_token, INSTRUCTION + TEXTS[0])[0], dim=0)
    assert torch.allclose(embedder.question(TEXTS[0]), asked, atol=1e-5)


def test_batches_change_nothing(tiny_embedder: Path) -> None:
    one, many = Embedder(tiny_embedder, batch_size=1), Embedder(tiny_embedder, batch_size=8)
    for embedder in (one, many):
        embedder.load(torch.device("cpu"))
    assert torch.allclose(one.passages(TEXTS), many.passages(TEXTS), atol=1e-5)


def test_a_probe_tells_embedders_apart(tiny_embedder: Path, by_first_token: Path) -> None:
    embedder, other = loaded(tiny_embedder), loaded(by_first_token)
    assert embedder.is_same(embedder.probe())
    assert embedder.is_same([value + PROBE_TOLERANCE / 2 for value in embedder.probe()])
    assert not embedder.is_same(other.probe())
    assert embedder.fingerprint != other.fingerprint  # the weights are the same, and the embeddings are not
    assert not embedder.is_same([0.5])


def test_an_embedder_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot load the encoder"):
        Embedder(tmp_path).check()
    with pytest.raises(RuntimeError, match="load the embedder first"):
        Embedder(tmp_path).question("Where?")


def test_a_pooling_that_cannot_be_asked_for_is_told(
    tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The model is in the cache, and the Hub cannot be reached. Only the download is replaced."""
    loaded(tiny_embedder)  # a folder without the file has no such pooling, and nothing is told
    assert not caplog.text

    def fails(name: str, file: str) -> str:
        raise LocalEntryNotFoundError(f"{name} {file}")

    monkeypatch.setattr(embedder_module, "hf_hub_download", fails)
    with caplog.at_level("WARNING"):
        assert not embedder_module._pools_by_first_token("an/embedder")
    assert "mean pooling is used" in caplog.text
