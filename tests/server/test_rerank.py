"""The rerank endpoints over HTTP, against the scores of the pruner itself."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import httpx
import torch

from at2_prune import AT2Pruner, LanguageModel, Passage, Question
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.passage_index.encoder import Encoder
from at2_prune.passage_index.stores import shared_memory
from at2_prune.pruning.selection import top_k
from at2_prune.scorers.scout import ScoutScorer

ENDPOINTS = ["/v1/rerank", "/v2/rerank"]


def relative(scores: list[float]) -> list[float]:
    return [(score - min(scores)) / (max(scores) - min(scores)) for score in scores]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_ranking_is_the_pruners(endpoint: str, serve, tiny_pruner: AT2Pruner, question: Question, texts) -> None:
    url, _ = serve(tiny_pruner)
    answer = httpx.post(url + endpoint, json={"model": "any", "query": question.text, "documents": texts}, timeout=60)
    assert answer.status_code == 200
    body = answer.json()
    scores = tiny_pruner.score(question.text, texts)
    assert [one["index"] for one in body["results"]] == top_k(scores, len(scores), "score")
    expected = relative(scores)
    assert [one["relevance_score"] for one in body["results"]] == pytest.approx(
        [expected[one["index"]] for one in body["results"]], abs=1e-6
    )
    assert "document" not in body["results"][0]
    assert body["model"] == tiny_pruner.language_model.name
    assert body["id"] == answer.headers["x-request-id"]
    assert body["meta"]["api_version"]["version"] == endpoint[2]
    assert "warnings" not in body["meta"]


def test_top_n_and_documents(serve, bm25: AT2Pruner, question: Question, texts: list[str]) -> None:
    url, _ = serve(bm25)
    asked = {"query": question.text, "documents": texts, "top_n": 2, "return_documents": True}
    results = httpx.post(f"{url}/v1/rerank", json=asked).json()["results"]
    assert [one["index"] for one in results] == top_k(bm25.score(question.text, texts), 2, "score")
    assert [one["document"]["text"] for one in results] == [texts[one["index"]] for one in results]
    assert results[0]["relevance_score"] == 1.0
    more = httpx.post(f"{url}/v1/rerank", json={**asked, "top_n": 1000}).json()["results"]
    assert len(more) == len(texts)


def test_documents_may_be_objects(serve, bm25: AT2Pruner, question: Question) -> None:
    url, _ = serve(bm25)
    rows = [{"title": p.title, "text": p.text, "other": 1} for p in question.passages]
    results = httpx.post(f"{url}/v1/rerank", json={"query": question.text, "documents": rows}).json()["results"]
    assert [one["index"] for one in results] == top_k(bm25.score(question.text, question.passages), 99, "score")


def test_rank_fields_name_what_is_read(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    rows = [{"name": "Ghent", "about": "a city"}, {"name": "Dinant", "about": "on the Meuse"}, {"name": "Namur"}]
    asked = {"query": "Where is the Meuse?", "documents": rows, "rank_fields": ["name", "about"]}
    results = httpx.post(f"{url}/v1/rerank", json={**asked, "return_documents": True}).json()["results"]
    assert [one["document"]["text"] for one in results] == ["Dinant\non the Meuse", "Ghent\na city", "Namur"]
    refused = httpx.post(f"{url}/v1/rerank", json={"query": "Where?", "documents": rows})
    assert (refused.status_code, refused.json()["field"]) == (422, "documents.0")


def test_only_the_first_tokens_of_a_document_are_read(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    late = "Ghent is a city in Belgium, and much later in this text there is the Meuse."
    asked = {"query": "Where is the Meuse?", "documents": [late, "the Meuse"], "return_documents": True}
    whole = httpx.post(f"{url}/v2/rerank", json=asked).json()["results"]
    assert {one["document"]["text"] for one in whole} == {late, "the Meuse"}
    cut = httpx.post(f"{url}/v2/rerank", json={**asked, "max_tokens_per_doc": 5}).json()["results"]
    shown = next(one["document"]["text"] for one in cut if one["index"] == 0)
    assert late.startswith(shown)
    assert len(bm25.language_model.codec.plain(shown)[0]) == 5


def test_texts_with_raw_scores(serve, tiny_pruner: AT2Pruner, question: Question, texts: list[str]) -> None:
    url, _ = serve(tiny_pruner)
    asked = {"query": question.text, "texts": texts, "raw_scores": True, "return_text": True}
    ranked = httpx.post(f"{url}/rerank", json=asked, timeout=60).json()
    scores = tiny_pruner.score(question.text, texts)
    assert [one["index"] for one in ranked] == top_k(scores, len(scores), "score")
    for one in ranked:
        assert one["score"] == pytest.approx(scores[one["index"]], abs=1e-6)
        assert one["text"] == texts[one["index"]]
    plain = httpx.post(f"{url}/rerank", json={"query": question.text, "texts": texts}, timeout=60).json()
    assert [one["index"] for one in plain] == [one["index"] for one in ranked]
    assert (plain[0]["score"], plain[-1]["score"]) == (1.0, 0.0)
    assert "text" not in plain[0]


def test_a_server_that_keeps_sentences_still_ranks_documents(serve, bm25: AT2Pruner, question: Question, texts) -> None:
    url, _ = serve(bm25, granularity="sentence")
    results = httpx.post(f"{url}/v2/rerank", json={"query": question.text, "documents": texts}).json()["results"]
    assert sorted(one["index"] for one in results) == list(range(len(texts)))


def test_a_model_that_writes_no_draft_leaves_the_order(serve, silent_lm, texts: list[str]) -> None:
    url, _ = serve(AT2Pruner.from_pretrained(silent_lm, method="average_attention", max_new_tokens=8))
    body = httpx.post(f"{url}/v2/rerank", json={"query": "Where?", "documents": texts}, timeout=60).json()
    assert [one["index"] for one in body["results"]] == list(range(len(texts)))
    assert "empty" in body["meta"]["warnings"][0]


@pytest.mark.parametrize("documents", [["one"], ["", "the Meuse"]])
def test_few_and_blank_documents(documents: list[str], serve, tiny_pruner: AT2Pruner) -> None:
    url, _ = serve(tiny_pruner)
    results = httpx.post(f"{url}/v2/rerank", json={"query": "Where?", "documents": documents}).json()["results"]
    assert sorted(one["index"] for one in results) == list(range(len(documents)))
    scores = tiny_pruner.score("Where?", [Passage(text) for text in documents])
    assert results[0]["index"] == top_k(scores, 1)[0]


def test_a_passage_is_read_once_for_all_requests(
    serve, tiny_lm: LanguageModel, question: Question, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, links = torch.ones(6, 2, 4), torch.ones(6, 1, 4)
    scout = ScoutScorer(ScoutCoefficients(own, own, links, (0, 1), (1,), model_layers=2))
    url, _ = serve(AT2Pruner(tiny_lm, scout))
    read: list[int] = []
    original = Encoder.pieces
    monkeypatch.setattr(Encoder, "pieces", lambda self, pieces: read.append(len(pieces)) or original(self, pieces))
    shared_memory.clear()
    for path, names in (("v2/rerank", ("query", "documents")), ("rerank", ("query", "texts"))):
        body = dict(zip(names, (question.text, texts), strict=True))
        assert httpx.post(f"{url}/{path}", json=body, timeout=60).status_code == 200
    for granularity in ("passage", "sentence"):
        body = {"question": "Where?", "passages": texts, "granularity": granularity}
        assert httpx.post(f"{url}/prune", json=body, timeout=60).status_code == 200
    assert sum(read) == len({*texts})
