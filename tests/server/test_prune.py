"""`/prune` and `/attribute` over HTTP, against the step of a pipeline and the pruner."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import httpx

from at2_prune import AT2Pruner, LanguageModel, PruneConfig, Question
from at2_prune.pipeline.step import PruneStep


@pytest.mark.parametrize("asked", [{}, {"k": 1}, {"k": 2, "granularity": "sentence"}, {"k": "auto"}])
def test_the_same_is_kept_as_in_a_pipeline(asked: dict, serve, tiny_pruner: AT2Pruner, question: Question) -> None:
    url, _ = serve(tiny_pruner, top_n=2)
    rows = [{"title": p.title, "text": p.text, "id": str(i)} for i, p in enumerate(question.passages)]
    body = httpx.post(f"{url}/prune", json={"question": question.text, "passages": rows, **asked}, timeout=60).json()
    config = PruneConfig(top_n=2, granularity=asked.get("granularity", "passage"))
    pruned = PruneStep(config, tiny_pruner).run(question.text, rows, k=asked.get("k"))
    assert [(one["index"], one["text"]) for one in body["kept"]] == [(one.index, one.text) for one in pruned.kept]
    assert [one["score"] for one in body["kept"]] == pytest.approx([one.score for one in pruned.kept], abs=1e-6)
    assert [one["id"] for one in body["kept"]] == [str(one.index) for one in pruned.kept]
    assert [(one["index"], one["reason"]) for one in body["dropped"]] == [(d.index, d.reason) for d in pruned.dropped]
    assert body["pruned_text"] == "\n\n".join(one.text for one in pruned.kept)
    assert body["draft"] == pruned.draft
    assert (body["answer"], body["fallback"]) == (None, None)


def test_the_reader_answers(serve, scorer_lm: LanguageModel, tiny_lm: LanguageModel, texts: list[str]) -> None:
    pruner = AT2Pruner.from_pretrained(scorer_lm, method="bm25", reader=tiny_lm, max_new_tokens=8)
    url, _ = serve(pruner)
    body = httpx.post(f"{url}/prune", json={"question": "Where?", "passages": texts, "answer": True}, timeout=60).json()
    kept = [item["index"] for item in body["kept"]]
    assert body["answer"] == AT2Pruner.from_pretrained(tiny_lm, method="bm25", max_new_tokens=8).answer_from(
        "Where?", texts, kept
    )
    assert body["model"] == scorer_lm.name


def test_the_answer_comes_from_what_is_kept(serve, bm25: AT2Pruner, question: Question, texts: list[str]) -> None:
    url, _ = serve(bm25)
    asked = {"question": question.text, "passages": texts, "k": 2, "answer": True}
    body = httpx.post(f"{url}/prune", json=asked, timeout=60).json()
    kept = [one["index"] for one in body["kept"]]
    assert body["answer"] == bm25.answer_from(question.text, texts, kept)


def test_the_draft_decides(serve, tiny_pruner: AT2Pruner, question: Question, texts: list[str]) -> None:
    url, _ = serve(tiny_pruner)
    asked = {"question": question.text, "passages": texts, "k": 3, "draft": "the river Meuse"}
    body = httpx.post(f"{url}/prune", json=asked, timeout=60).json()
    scores = tiny_pruner.score(question.text, texts, "the river Meuse")
    assert sorted(one["index"] for one in body["kept"]) == tiny_pruner.select(scores, 3)
    assert body["draft"] == "the river Meuse"


@pytest.mark.parametrize("granularity", ["passage", "sentence"])
def test_a_draft_is_attributed(granularity: str, serve, tiny_pruner: AT2Pruner, question: Question, texts) -> None:
    url, _ = serve(tiny_pruner)
    asked = {"question": question.text, "passages": texts, "draft": "the Meuse", "granularity": granularity}
    body = httpx.post(f"{url}/attribute", json=asked, timeout=60).json()
    same = AT2Pruner(tiny_pruner.language_model, tiny_pruner.scorer, granularity=granularity, max_new_tokens=8)
    expected = same.attribute(question.text, texts, "the Meuse")
    assert [(s["passage"], s["text"], s["rank"]) for s in body["sources"]] == [
        (s.passage, s.text, s.rank) for s in expected
    ]
    assert [s["score"] for s in body["sources"]] == pytest.approx([s.score for s in expected], abs=1e-6)
    assert body["method"] == tiny_pruner.scorer.name


def test_without_coefficients_nothing_is_attributed(serve, bm25: AT2Pruner, texts: list[str]) -> None:
    url, _ = serve(bm25)
    answer = httpx.post(f"{url}/attribute", json={"question": "Where?", "passages": texts, "draft": "There"})
    assert answer.status_code == 501
    assert "coefficients" in answer.json()["message"]


def test_passages_without_text_are_handed_on(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    asked = {"question": "Where?", "passages": ["", " "], "answer": True}
    answer = httpx.post(f"{url}/prune", json=asked, timeout=60)
    assert answer.status_code == 200
    assert [one["score"] for one in answer.json()["kept"]] == [None, None]
    assert answer.json()["answer"] is None


ASKED = {"question": "Where?", "passages": ["Dinant lies on the Meuse."], "draft": "Dinant"}
PASSAGE = {"text": "Dinant lies on the Meuse.", "url": "https://example.org", "rank": {"a": 1}, "score": 0.5}


@pytest.mark.parametrize(
    ("endpoint", "change", "field", "says"),
    [
        ("prune", {"k": True}, "k", "must be a number, not true or false"),
        ("prune", {"answer": 1}, "answer", "valid boolean"),
        ("prune", {"granularty": "sentence"}, "granularty", "there is no such field"),
        ("attribute", {"granularty": "sentence"}, "granularty", "there is no such field"),
        ("attribute", {"k": 1}, "k", "there is no such field"),
        ("attribute", {"x" * 100: 1}, "x" * 40, "there is no such field"),
        ("prune", {"passages": [{"text": "a", "score": True}]}, "passages.0.score", "not true or false"),
        ("prune", {"passages": ["a", {"text": "b", "titel": "B"}]}, "passages.1.titel", "did you mean 'title'?"),
        ("attribute", {"passages": [{"text": "b", "Title": "B"}]}, "passages.0.Title", "did you mean 'title'?"),
        ("prune", {"passages": [{"text": "b", "ID": "1"}]}, "passages.0.ID", "did you mean 'id'?"),
        ("v1/rerank", {"top_n": True}, "top_n", "must be a number, not true or false"),
        ("v2/rerank", {"max_tokens_per_doc": True}, "max_tokens_per_doc", "must be a number, not true or false"),
        ("v2/rerank", {"documents": ["a", {"text": "b", "Title": "B"}]}, "documents.1.Title", "did you mean 'title'?"),
        ("v1/rerank", {"documents": [{"Text": "b"}]}, "documents.0.Text", "did you mean 'text'?"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    endpoint: str, change: dict, field: str, says: str, serve, tiny_pruner: AT2Pruner
) -> None:
    url, _ = serve(tiny_pruner)
    asked = {"query": "Where?", "documents": ["a"]} if "rerank" in endpoint else ASKED
    refused = httpx.post(f"{url}/{endpoint}", json={**asked, **change}, timeout=60)
    assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert says in refused.json()["message"]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("prune", {**ASKED, "passages": [PASSAGE], "k": 1.0, "answer": False}),
        (
            "v2/rerank",
            {"query": "Where?", "documents": [{**PASSAGE, "ID": 7}], "top_n": 1, "priority": 3, "other": None},
        ),
        ("v1/rerank", {"query": "Where?", "documents": [{"Title": "Dinant"}], "rank_fields": ["Title"]}),
    ],
)
def test_other_keys_of_documents_and_fields_of_other_services_are_taken(
    endpoint: str, body: dict, serve, bm25: AT2Pruner
) -> None:
    url, _ = serve(bm25)
    answer = httpx.post(f"{url}/{endpoint}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
