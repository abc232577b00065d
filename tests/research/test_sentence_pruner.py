"""The script that compares a sentence pruner with scout, on a small model that brings its own code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from at2_prune.datasets import load_questions
from at2_prune.errors import InputError
from at2_prune.models.language_model import LanguageModel

RESEARCH = Path(__file__).parents[2] / "research"
CODE = '''
import re

import torch
from transformers import PretrainedConfig, PreTrainedModel


class OverlapConfig(PretrainedConfig):
    model_type = "overlap"


class Overlap(PreTrainedModel):
    """Keeps the sentences that share a long word with the question."""

    config_class = OverlapConfig

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.post_init()

    def process(self, question, context, threshold=0.1):
        asked = {word for word in re.findall("[a-z]{5,}", question.lower())}
        share = {one: len(asked & set(re.findall("[a-z]{5,}", one.lower()))) for one in context.split(". ")}
        kept = [one for one, count in share.items() if count * self.weight.item() > threshold]
        return {"pruned_context": ". ".join(kept), "reranking_score": float(sum(share.values()))}
'''
QUESTION = {
    "id": "sax",
    "question": "Where was the inventor of the saxophone born?",
    "passages": [
        {"title": "Ghent", "text": "Ghent is a city in Flanders. It has a harbour."},
        {"title": "Sax", "text": "The inventor of the saxophone was born in Dinant. He moved to Paris. He had a shop."},
        {"title": "Clarinet", "text": "The clarinet has a single reed."},
    ],
    "answer": "Dinant",
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RESEARCH))
    import sentence_pruner

    return sentence_pruner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with code of its own, as Provence has."""
    path = tmp_path / "overlap"
    path.mkdir()
    (path / "modeling_overlap.py").write_text(CODE)
    names = {"AutoConfig": "modeling_overlap.OverlapConfig", "AutoModel": "modeling_overlap.Overlap"}
    (path / "config.json").write_text(json.dumps({"model_type": "overlap", "auto_map": names}))
    save_file({"weight": torch.ones(1)}, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_shortened_passages_are_compared_with_scout(
    script: Any,
    folder: Path,
    embedded_lm: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps(QUESTION) + "\n")
    out = tmp_path / "runs" / "out.jsonl"
    words = [str(folder), str(tmp_path / "data.jsonl"), "--k", "1", "--out", str(out), "--trust-remote-code"]
    monkeypatch.setattr(sys, "argv", ["sentence_pruner.py", *words])
    script.main()
    shown = capsys.readouterr().out
    assert shown.startswith("questions: 1")
    values = json.loads(out.read_text().splitlines()[-1])["values"]
    assert list(values) == ["all", "shortened", "shortened, best 1", "scout, best 1"]
    tokens = {name: count for name, (_, count) in values.items()}
    assert tokens["shortened, best 1"] <= tokens["shortened"] < tokens["all"]
    assert tokens["shortened, best 1"] < tokens["scout, best 1"] < tokens["all"]
    assert values["shortened, best 1"][0] > 0
    monkeypatch.setattr(script, "sets", lambda *given: pytest.fail("an answered question is answered again"))
    script.main()
    assert capsys.readouterr().out == shown
    monkeypatch.setattr(sys, "argv", ["sentence_pruner.py", *words, "--threshold", "0.5"])
    with pytest.raises(SystemExit):
        script.main()
    assert "made with other settings: threshold 0.1 there, 0.5 now" in capsys.readouterr().err


def test_what_a_sentence_pruner_leaves(script: Any, folder: Path) -> None:
    file = folder.parent / "data.jsonl"
    file.write_text(json.dumps(QUESTION) + "\n")
    model = script.load_sentence_pruner(str(folder), True)
    texts, scores = script.shortened(model, load_questions(file)[0], 0.1)
    assert texts == ["", "The inventor of the saxophone was born in Dinant", ""]
    assert scores == [0, 2, 0]


def test_models_that_cannot_be_used(script: Any, folder: Path, tiny_lm: LanguageModel, tmp_path: Path) -> None:
    tiny_lm.model.save_pretrained(tmp_path / "tiny")
    with pytest.raises(
        InputError, match=r"cannot load the sentence pruner .*overlap: .*custom code.*--trust-remote-code"
    ):
        script.load_sentence_pruner(str(folder), False)
    with pytest.raises(InputError, match="has no method process"):
        script.load_sentence_pruner(str(tmp_path / "tiny"), True)
    with pytest.raises(InputError, match="cannot load the sentence pruner nowhere/model"):
        script.load_sentence_pruner("nowhere/model", True)
