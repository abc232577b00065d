"""Scout over the passage index: its scores, its coefficients, their training and its commands."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from at2_prune import AT2Pruner, load_questions, sample_questions_path
from at2_prune.cli import main
from at2_prune.coefficients.loading import load_coefficients, method_of
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.errors import CoefficientsError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.features import question_features, question_sums
from at2_prune.passage_index.sources import source_units
from at2_prune.passages import Passage
from at2_prune.scorers.scout import CANDIDATES, ScoutScorer
from at2_prune.training import ScoutSettings, TrainingData, train_scout

SENTENCES = ["The Meuse rises in France.", "A clarinet has a single reed. ", "It is played by mouth."]
QUESTION = "Which river runs through the town?"
PASSAGES = [
    Passage("Dinant lies on the Meuse. It is a town.", title="Dinant"),
    Passage("Ghent is a city with many canals.", title="Ghent"),
    Passage("The Meuse rises in France."),
    Passage("A clarinet has a single reed. It is played by mouth.", title="Clarinet"),
]


@pytest.fixture
def scout(tiny_lm: LanguageModel, scout_coefficients: ScoutCoefficients) -> AT2Pruner:
    return AT2Pruner(tiny_lm, ScoutScorer(scout_coefficients), max_new_tokens=4)


def test_order_does_not_matter(scout: AT2Pruner) -> None:
    scores = scout.score(QUESTION, PASSAGES)
    assert len(set(scores)) == len(PASSAGES)
    assert scout.score(QUESTION, PASSAGES[::-1])[::-1] == pytest.approx(scores, abs=1e-4)


def test_the_chosen_come_first(scout_coefficients: ScoutCoefficients) -> None:
    features = torch.rand(6, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    links = torch.rand(5, 6, 1, 4, 5, generator=torch.Generator().manual_seed(2))
    scores = scout_coefficients.score(features, lambda chosen: links[chosen])
    best = int(scout_coefficients.first_scores(features).argmax())
    order = scores.argsort(descending=True).tolist()
    assert order[0] == best

    def linked(known: int) -> torch.Tensor:
        return torch.einsum("flh,flhs->s", scout_coefficients.links.double(), links[known].double())

    own = torch.einsum("flh,flhs->s", scout_coefficients.following.double(), features.double())
    others = [i for i in range(5) if i != best]
    second = max(others, key=lambda i: float((own + linked(best))[i]))
    assert order[1] == second
    rest = sorted(
        (i for i in others if i != second), key=lambda i: -float((own + linked(best).maximum(linked(second)))[i])
    )
    assert order[2:] == rest


def test_many_passages_and_long_ones_need_no_windows(scout: AT2Pruner) -> None:
    many = [Passage(f"{place} {passage.text}", passage.title) for place in range(20) for passage in PASSAGES]
    assert len(many) > CANDIDATES
    scores = scout.score(QUESTION, many)
    assert len(set(scores)) > CANDIDATES
    assert all(score > float("-inf") for score in scores)
    long = [*PASSAGES, Passage("A reed is a plant. " * 400)]
    assert len(scout.score(QUESTION, long)) == len(long)


def test_sentences_and_passages_without_text(scout: AT2Pruner, tiny_lm: LanguageModel) -> None:
    sentences = AT2Pruner(tiny_lm, scout.scorer, granularity="sentence", max_new_tokens=4)
    assert len(sentences.score(QUESTION, PASSAGES)) == 6
    scores = scout.score(QUESTION, [Passage(" "), *PASSAGES])
    assert scores[0] == min(scores)


def test_a_sentence_is_as_probable_as_its_passage_and_itself_in_it(scout: AT2Pruner, tiny_lm: LanguageModel) -> None:
    sentences = AT2Pruner(tiny_lm, scout.scorer, granularity="sentence", max_new_tokens=4)
    scores = torch.tensor(sentences.score(QUESTION, PASSAGES))
    owner = torch.tensor([0, 0, 1, 2, 3, 3])
    for place, wanted in enumerate(scout.score(QUESTION, PASSAGES)):
        assert float(scores[owner == place].sum()) == pytest.approx(wanted, rel=1e-5)
    index = scout.scorer.index(tiny_lm)  # type: ignore[attr-defined]
    texts = ["Dinant lies on the Meuse. ", "It is a town.", "Ghent is a city with many canals."]
    units, _ = source_units(index, PASSAGES[:2], [0, 0, 1], texts)
    everything = [*units, *source_units(index, PASSAGES[2:], [0, 1, 1], SENTENCES)[0]]
    features = question_features(question_sums(index.question(QUESTION), everything))
    first = scout.scorer.coefficients.first_scores(features)  # type: ignore[attr-defined]
    assert float((scores[0] / scores[1]).log()) == pytest.approx(float(first[0] - first[1]), abs=1e-4)


def test_saved_and_loaded(scout_coefficients: ScoutCoefficients, tmp_path: Path, tiny_lm: LanguageModel) -> None:
    scout_coefficients.save_pretrained(tmp_path)
    loaded = load_coefficients(tiny_lm, tmp_path)
    assert isinstance(loaded, ScoutCoefficients)
    assert method_of(loaded) == "scout"
    assert torch.equal(loaded.links, scout_coefficients.links)
    assert AT2Pruner.from_pretrained(tiny_lm, tmp_path).scorer.name == "scout"
    with pytest.raises(InputError, match=r"the method at2 needs .* belong to scout"):
        AT2Pruner.from_pretrained(tiny_lm, tmp_path, method="at2")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(CoefficientsError, match="this version reads"):
        ScoutCoefficients.from_pretrained(tmp_path)


def test_pickled(scout: AT2Pruner) -> None:
    scores = scout.score(QUESTION, PASSAGES)
    again = AT2Pruner(scout.language_model, pickle.loads(pickle.dumps(scout.scorer)), max_new_tokens=4)
    assert again.score(QUESTION, PASSAGES) == pytest.approx(scores, abs=1e-6)


def test_training(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    questions = load_questions(sample_questions_path(), limit=4)
    data = [TrainingData(questions[:2], "one"), TrainingData(questions[2:], "two")]
    seen: list[None] = []
    report = train_scout(tiny_lm, data, tmp_path, ScoutSettings((0, 1), (1,), holdout=0.0), lambda: seen.append(None))
    assert (report.fitted, report.held_out, len(seen)) == (4, 0, 4)
    again = train_scout(tiny_lm, data, tmp_path, ScoutSettings((0, 1), (1,), holdout=0.0))
    assert torch.equal(again.coefficients.first, report.coefficients.first)
    with pytest.raises(InputError, match="layers must be at least 0 and below 2"):
        ScoutSettings((5,)).resolved(2)
    with pytest.raises(InputError, match="other settings"):
        train_scout(tiny_lm, data, tmp_path, ScoutSettings((1,)))


def test_an_index_on_disk_by_command(
    scout: AT2Pruner, scout_coefficients: ScoutCoefficients, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = scout.language_model
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    scout_coefficients.save_pretrained(tmp_path / "scout")
    (tmp_path / "passages.json").write_text(json.dumps([{"text": p.text, "title": p.title} for p in PASSAGES]))
    given = ["--passages", str(tmp_path / "passages.json"), "--model", str(tmp_path / "model")]
    given += ["--coefficients", str(tmp_path / "scout")]
    for count in (4, 0):
        assert main(["index", *given, "--out", str(tmp_path / "index")]) == 0
        assert f"read {count} new passages of 4" in capsys.readouterr().out
    assert main(["score", QUESTION, *given, "--index", str(tmp_path / "index"), "--json"]) == 0
    assert "scores" in capsys.readouterr().out
