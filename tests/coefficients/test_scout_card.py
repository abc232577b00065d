"""The model card of scout's coefficients: training writes it, and its command makes the same coefficients again."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard

from at2_prune import load_questions, sample_questions_path
from at2_prune.cli.train_scout import add_arguments
from at2_prune.coefficients.scout_card import LIMITS
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.models.language_model import LanguageModel
from at2_prune.training import ScoutSettings, TrainingData, train_scout


def test_training_writes_the_card(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    questions = load_questions(sample_questions_path())
    data = [
        TrainingData(questions[:6], "some/one.jsonl", {"limit": 6}),
        TrainingData(questions[6:], "two", {"limit": 9}),
    ]
    report = train_scout(tiny_lm, data, tmp_path, ScoutSettings((0, 1), (1,), holdout=0.5))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "at2-prune"
    assert f"# Coefficients of scout for {tiny_lm.name}" in card.text
    assert all(f"- {limit}" in card.text for limit in LIMITS)
    stored = ScoutCoefficients.from_pretrained(tmp_path).training
    for place, (name, by) in enumerate(report.recall.items()):
        fitted, held = (stored[f"questions_{part}"][place] for part in ("fitted", "held_out"))
        assert f"| {name} | {fitted} | {held} | {by['recall@2']} | {by['recall@3']} |" in card.text
    assert report.held_out > 0
    assert "penalty 0.03" in card.text
    (command,) = [line for line in card.text.splitlines() if line.startswith("$ at2-prune train-scout")]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    made = parser.parse_args(shlex.split(command)[3:])
    assert (made.model, made.data, made.limit) == (tiny_lm.name, ["some/one.jsonl", "two"], [6, 9])
    assert (made.layers, made.link_layers, made.holdout, made.split) == ([0, 1], [1], 0.5, None)
    assert made.dtype == "float32"


def test_nothing_is_claimed_that_was_not_measured(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    questions = load_questions(sample_questions_path(), limit=3)
    found = train_scout(tiny_lm, [TrainingData(questions, "one")], tmp_path, ScoutSettings((0, 1), holdout=0.0))
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "No question was held out, so nothing was measured here." in card
    assert "recall at" not in card
    replace(found.coefficients, training={}).save_pretrained(tmp_path)
    assert "## Data" not in (tmp_path / "README.md").read_text(encoding="utf-8")
