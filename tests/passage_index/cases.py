"""The passages, the index and the model folder that tests of this room share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage

QUESTION = "Which river runs through the town of the saxophone?"
PASSAGES = [
    Passage("Adolphe Sax invented it. He was born in Dinant.", title="Saxophone"),
    Passage("Dinant lies on the Meuse.", title="Dinant"),
    Passage("Ghent is a city in Flanders with many canals and a castle."),
    Passage("The Meuse rises in France.", title="Meuse"),
]


def tiny_coefficients() -> ScoutCoefficients:
    """Random coefficients of scout for the tiny model."""
    generator = torch.Generator().manual_seed(0)
    first, following = torch.randn(2, 6, 2, 4, generator=generator)
    links = torch.randn(6, 1, 4, generator=generator)
    return ScoutCoefficients(first, following, links, (0, 1), (1,), "tiny", "llama", 2)


def index_command(lm: LanguageModel, folder: Path, passages: Sequence[Passage]) -> list[str]:
    """Write model, coefficients and passages into a folder, and return `at2-prune index` for its folder `index`."""
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    tiny_coefficients().save_pretrained(folder / "scout")
    rows = [{"text": passage.text, "title": passage.title} for passage in passages]
    (folder / "passages.json").write_text(json.dumps(rows), encoding="utf-8")
    given = ["--passages", str(folder / "passages.json"), "--model", str(folder / "model")]
    return ["index", *given, "--coefficients", str(folder / "scout"), "--out", str(folder / "index")]
