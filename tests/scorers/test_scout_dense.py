"""The method scout_dense: scout with the cosine of an embedder as one more feature."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from at2_prune import AT2Pruner, PruneConfig, load_questions, sample_questions_path
from at2_prune.cli import main
from at2_prune.coefficients.loading import method_of
from at2_prune.coefficients.scout_coefficients import CosineFeature, ScoutCoefficients
from at2_prune.encoders.embedder import Embedder
from at2_prune.errors import CoefficientsError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.index import PassageIndex
from at2_prune.passage_index.layout import Piece, piece_text
from at2_prune.passage_index.stores import shared_memory
from at2_prune.passages import Passage
from at2_prune.scorers.scout import ScoutScorer
from at2_prune.training import ExampleStore, ScoutSettings, TrainingData, train_scout

from .test_scout_index import PASSAGES, QUESTION


@pytest.fixture(scope="module")
def embedder(tiny_embedder: Path) -> Embedder:
    found = Embedder(tiny_embedder)
    found.load(torch.device("cpu"))
    return found


@pytest.fixture
def coefficients(scout_coefficients: ScoutCoefficients, embedder: Embedder) -> ScoutCoefficients:
    return replace(scout_coefficients, cosine=CosineFeature(6.0, -3.0, str(embedder.name), embedder.probe()))


@pytest.fixture
def pruner(tiny_lm: LanguageModel, coefficients: ScoutCoefficients) -> AT2Pruner:
    return AT2Pruner(tiny_lm, ScoutScorer(coefficients, precision="float32"), max_new_tokens=4)


def cosines(embedder: Embedder) -> torch.Tensor:
    texts = [f"{passage.title} {passage.text}" if passage.title else passage.text for passage in PASSAGES]
    return embedder.passages(texts) @ embedder.question(QUESTION)


def test_the_cosine_is_a_term_of_both_choices(
    tiny_lm: LanguageModel, coefficients: ScoutCoefficients, embedder: Embedder
) -> None:
    features = torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    links = torch.rand(4, 6, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    plain = replace(coefficients, cosine=None)
    values = cosines(embedder)
    own = torch.einsum("flh,flhs->s", plain.first.double(), features.double()) + 6 * values.double()
    assert torch.allclose(coefficients.first_scores(features, values), own)
    first = own.softmax(0)
    following = torch.einsum("flh,flhs->s", plain.following.double(), features.double()) - 3 * values.double()
    wanted = first.clone()
    for known in range(4):  # at most four first choices are followed
        later = following + torch.einsum("flh,flhs->s", plain.links.double(), links[known].double())
        later[known] = -torch.inf
        wanted += first[known] * later.softmax(0) / 2
    assert torch.allclose(coefficients.score(features, lambda chosen: links[chosen], cosines=values), wanted)
    with pytest.raises(CoefficientsError, match="need the cosines of the embedder"):
        coefficients.first_scores(features)


def test_scores_hold_the_cosine(pruner: AT2Pruner, coefficients: ScoutCoefficients, embedder: Embedder) -> None:
    scores = pruner.score(QUESTION, PASSAGES)
    plain = AT2Pruner(pruner.language_model, ScoutScorer(replace(coefficients, cosine=None), precision="float32"))
    assert pruner.scorer.name == "scout_dense"
    assert scores != pytest.approx(plain.score(QUESTION, PASSAGES), abs=1e-3)
    silent = replace(coefficients, cosine=replace(coefficients.cosine, first=0.0, following=0.0))  # type: ignore[type-var]
    same = AT2Pruner(pruner.language_model, ScoutScorer(silent, precision="float32"))
    assert same.score(QUESTION, PASSAGES) == pytest.approx(plain.score(QUESTION, PASSAGES), abs=1e-6)


def test_order_does_not_matter_and_blank_passages_come_last(pruner: AT2Pruner) -> None:
    scores = pruner.score(QUESTION, PASSAGES)
    assert pruner.score(QUESTION, PASSAGES[::-1])[::-1] == pytest.approx(scores, abs=1e-4)
    scores = pruner.score(QUESTION, [Passage(" "), *PASSAGES])
    assert scores[0] == min(scores)


def test_sentences_share_the_score_of_their_passage(pruner: AT2Pruner) -> None:
    sentences = AT2Pruner(pruner.language_model, pruner.scorer, granularity="sentence", max_new_tokens=4)
    scores = torch.tensor(sentences.score(QUESTION, PASSAGES))
    owner = torch.tensor([0, 0, 1, 2, 3, 3])
    for place, wanted in enumerate(pruner.score(QUESTION, PASSAGES)):
        assert float(scores[owner == place].sum()) == pytest.approx(wanted, rel=1e-5)


def test_no_passage_is_embedded_twice(pruner: AT2Pruner, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    embed = Embedder.passages

    def counted(self: Embedder, texts: list[str]) -> torch.Tensor:
        read.extend(texts)
        return embed(self, texts)

    shared_memory.clear()
    pruner.score(QUESTION, PASSAGES[:2])
    monkeypatch.setattr(Embedder, "passages", counted)
    pruner.score(QUESTION, PASSAGES)
    assert read == [
        "The Meuse rises in France.",
        "Clarinet A clarinet has a single reed. It is played by mouth.",
        QUESTION,
    ]


def test_every_piece_of_a_long_passage_has_an_embedding(tiny_lm: LanguageModel, embedder: Embedder) -> None:
    index = PassageIndex(tiny_lm, (0, 1), (1,), embedder=embedder)
    passage = Passage("A reed is a plant. " * 300, title="Reed")
    records = next(index.records([passage]))
    assert len(records) > 1
    assert all(record.embedding is not None for record in records)
    found = index.cosines(QUESTION, records)
    assert found is not None
    assert found.shape == (len(records),)


def test_a_piece_without_words_has_the_embedding_of_its_passage() -> None:
    assert piece_text(Passage("Oslo is a city.\n", "Oslo"), Piece([], 0, [(15, 16)])) == "Oslo Oslo is a city.\n"


def test_an_index_on_disk_keeps_embeddings(
    tiny_lm: LanguageModel, coefficients: ScoutCoefficients, pruner: AT2Pruner, tmp_path: Path
) -> None:
    scores = pruner.score(QUESTION, PASSAGES)
    for _ in range(2):  # the second scorer finds all records on the disk
        on_disk = AT2Pruner(tiny_lm, ScoutScorer(coefficients, tmp_path / "index", "float32"), max_new_tokens=4)
        assert on_disk.score(QUESTION, PASSAGES) == pytest.approx(scores, abs=1e-6)
    plain = ScoutScorer(replace(coefficients, cosine=None), tmp_path / "index", "float32")
    with pytest.raises(InputError, match=r"embedder: '.*' there, None now"):
        AT2Pruner(tiny_lm, plain, max_new_tokens=4).score(QUESTION, PASSAGES)


def test_another_embedder_is_refused(
    tiny_lm: LanguageModel, coefficients: ScoutCoefficients, tiny_reranker: Path, tmp_path: Path
) -> None:
    other = replace(coefficients, cosine=replace(coefficients.cosine, probe=(0.9, -0.9, 0.1)))  # type: ignore[type-var]
    with pytest.raises(CoefficientsError, match=r"learned with the embedder .* gives other cosines"):
        AT2Pruner(tiny_lm, ScoutScorer(other), max_new_tokens=4).score(QUESTION, PASSAGES)
    with pytest.raises(InputError, match="cannot load the encoder"):
        ScoutScorer(coefficients, embedder=tmp_path).check("tiny")


def test_saved_loaded_and_pickled(pruner: AT2Pruner, coefficients: ScoutCoefficients, tmp_path: Path) -> None:
    coefficients.save_pretrained(tmp_path)
    loaded = ScoutCoefficients.from_pretrained(tmp_path)
    assert method_of(loaded) == "scout_dense"
    assert loaded.cosine == coefficients.cosine
    assert "scout_dense" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert AT2Pruner.from_pretrained(pruner.language_model, tmp_path).scorer.name == "scout_dense"
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format"] == 2
    (tmp_path / "config.json").write_text(json.dumps({**config, "cosine": {**config["cosine"], "first": "nan"}}))
    with pytest.raises(CoefficientsError, match="not finite"):
        ScoutCoefficients.from_pretrained(tmp_path)
    scores = pruner.score(QUESTION, PASSAGES)
    again = AT2Pruner(pruner.language_model, pickle.loads(pickle.dumps(pruner.scorer)), max_new_tokens=4)
    assert again.score(QUESTION, PASSAGES) == pytest.approx(scores, abs=1e-6)


def test_training_learns_a_weight_for_the_cosine(tiny_lm: LanguageModel, tiny_embedder: Path, tmp_path: Path) -> None:
    questions = load_questions(sample_questions_path(), limit=12)
    settings = ScoutSettings((0, 1), (1,), holdout=0.0, embedder=str(tiny_embedder))
    found = train_scout(tiny_lm, [TrainingData(questions, "some")], tmp_path, settings).coefficients
    assert found.cosine is not None
    assert found.cosine.embedder == str(tiny_embedder.resolve())
    assert 0 not in (found.cosine.first, found.cosine.following)
    assert found.calibration is not None
    index = PassageIndex(tiny_lm, (0, 1), (1,), embedder=Embedder(tiny_embedder))
    example = next(ExampleStore.open(tmp_path).load([questions[0].id]))
    records = [one for some in index.records(questions[0].passages) for one in some]
    assert example.cosines is not None
    assert example.cosines.tolist() == pytest.approx(index.cosines(questions[0].text, records).tolist(), abs=1e-6)  # type: ignore[union-attr]
    pruner = AT2Pruner(tiny_lm, ScoutScorer(found), max_new_tokens=4)
    assert all(0 <= value <= 1 for value in pruner.answer(QUESTION, PASSAGES, k=2).probabilities or [2.0])
    with pytest.raises(InputError, match="other settings"):
        train_scout(tiny_lm, [TrainingData(questions, "some")], tmp_path, replace(settings, embedder=None))


def test_the_commands(
    tiny_lm: LanguageModel, tiny_embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Learn coefficients, fit their probabilities, make an index, and score with it."""
    tiny_lm.model.save_pretrained(tmp_path / "model")
    tiny_lm.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "passages.json").write_text(json.dumps([{"text": p.text, "title": p.title} for p in PASSAGES]))
    model, out = ["--model", str(tmp_path / "model")], ["--out", str(tmp_path / "scout")]
    data = ["--data", str(sample_questions_path()), "--limit", "20", "--layers", "0", "1"]
    assert main(["train-scout", *data, *model, *out, "--embedder", str(tiny_embedder)]) == 0
    given = [*model, "--coefficients", str(tmp_path / "scout")]
    asked = ["--questions", str(sample_questions_path()), "--limit", "20"]
    assert main(["calibrate", *asked, *given, "--out", str(tmp_path / "again")]) == 0
    given = [*model, "--coefficients", str(tmp_path / "again"), "--passages", str(tmp_path / "passages.json")]
    assert main(["index", *given, "--out", str(tmp_path / "index")]) == 0
    assert "read 4 new passages of 4" in capsys.readouterr().out
    assert main(["score", QUESTION, *given, "--index", str(tmp_path / "index"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["scores"]) == 4
    assert main(["index", *given, "--embedder", str(tmp_path / "model"), "--out", str(tmp_path / "other")]) != 0
    assert "gives other cosines" in capsys.readouterr().err


def test_a_setting_of_a_pipeline(tiny_lm: LanguageModel, coefficients: ScoutCoefficients, tmp_path: Path) -> None:
    coefficients.save_pretrained(tmp_path)
    config = PruneConfig(method="scout_dense", coefficients=str(tmp_path), min_score=0.2)
    assert config.needing_probabilities == ["min_score"]
    with pytest.raises(InputError, match="the given coefficients belong to scout_dense"):
        AT2Pruner.from_pretrained(tiny_lm, tmp_path, method="scout")
