"""What a server refuses, and that no text of a request reaches an error, a log or a metric."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import httpx

from at2_prune import AT2Pruner, PruneConfig
from at2_prune.errors import InputError
from at2_prune.pipeline.step import PruneStep
from at2_prune.server.app import create_app
from at2_prune.server.limits import Limits
from at2_prune.server.logs import JsonFormatter

SECRET = "zanzibar"  # a word that must be found nowhere
GOOD = {"query": f"Where is {SECRET}?", "documents": [f"{SECRET} is an island", "another text"]}


@pytest.fixture
def held() -> Iterator[Callable[[Any], threading.Event]]:
    """Occupies the thread of a service until the returned event is set."""
    events = []

    def hold(service: Any) -> threading.Event:
        event, begun = threading.Event(), threading.Event()
        events.append(event)
        service.queue.run(lambda: (begun.set(), event.wait(30)))
        assert begun.wait(30)
        return event

    yield hold
    for event in events:
        event.set()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[dict[str, Any]]]:
    """The lines of the server's log, once so many requests have one; it is written after the answer is sent."""
    caplog.set_level(logging.INFO, "at2_prune")
    formatter = JsonFormatter()

    def lines(count: int) -> list[dict[str, Any]]:
        until(lambda: sum(record.message == "answered" for record in [*caplog.records]) >= count)
        return [json.loads(formatter.format(record)) for record in caplog.records]

    return lines


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v2/rerank", {"query": SECRET}, "documents"),
        ("/v2/rerank", {"query": SECRET, "documents": []}, "documents"),
        ("/v2/rerank", {"query": " ", "documents": [SECRET]}, "query"),
        ("/v2/rerank", {"query": SECRET, "documents": [" ", ""]}, "documents"),
        ("/rerank", {"query": SECRET, "texts": [" "]}, "texts"),
        ("/attribute", {"question": SECRET, "passages": [" "], "draft": SECRET}, "passages"),
        ("/v2/rerank", {**GOOD, "top_n": 0}, "top_n"),
        ("/v2/rerank", {**GOOD, "documents": [SECRET, 7]}, "documents.1"),
        ("/v2/rerank", {**GOOD, "documents": [SECRET] * 4}, "documents"),
        ("/v1/rerank", {**GOOD, "documents": [SECRET, {"text": None, "title": SECRET}]}, "documents.1"),
        ("/v1/rerank", {**GOOD, "documents": [SECRET, SECRET * 20]}, "documents"),
        ("/v1/rerank", {**GOOD, "query": SECRET * 20}, "query"),
        ("/rerank", {"query": SECRET, "texts": [SECRET, None]}, "texts.1"),
        ("/rerank", {"query": SECRET, "texts": [SECRET] * 4}, "texts"),
        ("/prune", {"question": SECRET, "passages": [{"title": SECRET}]}, "passages.0.text"),
        ("/prune", {"question": SECRET, "passages": [{"text": SECRET, "score": "x"}]}, "passages.0.score"),
        ("/prune", {"question": SECRET, "passages": [SECRET], "k": 0}, "k"),
        ("/prune", {"question": SECRET, "passages": [SECRET], "granularity": SECRET}, "granularity"),
        ("/attribute", {"question": SECRET, "passages": [SECRET], "draft": " "}, "draft"),
        ("/attribute", {"question": SECRET, "passages": [SECRET], "draft": SECRET * 20}, "draft"),
    ],
)
def test_the_field_is_named_and_no_text_repeated(path: str, body: dict, field: str, serve, bm25, log) -> None:
    url, _ = serve(bm25, Limits(max_documents=3, max_characters=120))
    answer = httpx.post(url + path, json=body)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, field)
    assert problem["message"] == problem["detail"] == problem["error"]
    assert problem["error_type"] == "Validation"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in answer.text
    lines = log(1)
    assert (lines[-1]["endpoint"], lines[-1]["status"]) == (path, 422)
    assert SECRET not in json.dumps(lines)
    assert SECRET not in httpx.get(f"{url}/metrics").text


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"', b"[" * 100_000, b'{"query": ' + b"9" * 5000, b"null", b"[1]"])
def test_a_body_that_is_not_json(body: bytes, serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    answer = httpx.post(f"{url}/rerank", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["message"]


def test_a_body_without_its_type_says_what_to_send(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    answer = httpx.post(f"{url}/v2/rerank", content=json.dumps(GOOD))
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["message"]


def test_half_a_character_is_no_fault_of_the_server(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    raw = json.dumps(
        {"query": "Where?", "documents": [{"text": "a \ud800 b"}, {"text": "c"}], "return_documents": True}
    )
    answer = httpx.post(f"{url}/v1/rerank", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_413(chunked: bool, serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25, Limits(max_body_bytes=1000))
    raw = json.dumps({"query": "Where?", "texts": ["a" * 2000]}).encode()
    content = iter([raw[:900], raw[900:]]) if chunked else raw
    answer = httpx.post(f"{url}/rerank", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["field"]) == (413, "body")
    assert "1000 bytes" in answer.json()["message"]


def test_a_body_that_never_comes_is_408(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25, Limits(timeout=0.2))
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        head = (
            f"POST /rerank HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{"
        )
        client.sendall(head.encode())
        assert b" 408 " in client.recv(1000).splitlines()[0]


def test_the_queue_is_bounded(serve, bm25: AT2Pruner, held) -> None:
    url, service = serve(bm25, Limits(max_waiting=2))
    event = held(service)
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v2/rerank", json=GOOD, timeout=60).status_code)
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    until(lambda: service.queue.waiting == 2)
    refused = httpx.post(f"{url}/v2/rerank", json=GOOD)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error_type"] == "Overloaded"
    assert httpx.get(f"{url}/ready").status_code == 503
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    assert "at2_prune_waiting_requests 2.0" in httpx.get(f"{url}/metrics").text
    event.set()
    for thread in threads:
        thread.join(60)
    assert answers == [200, 200]
    assert httpx.get(f"{url}/ready").json()["status"] == "ready"
    assert 'at2_prune_batch_size_bucket{le="2.0"} 1.0' in httpx.get(f"{url}/metrics").text  # the two were one batch


def test_an_answer_that_takes_too_long_is_504(serve, bm25: AT2Pruner, held) -> None:
    url, service = serve(bm25, Limits(timeout=0.2))
    held(service)
    answer = httpx.post(f"{url}/v2/rerank", json=GOOD)
    assert answer.status_code == 504
    assert "0.2 seconds" in answer.json()["message"]


def test_a_client_that_hangs_up_is_not_scored(serve, bm25: AT2Pruner, held, log) -> None:
    url, service = serve(bm25)
    event = held(service)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v2/rerank", json=GOOD, timeout=0.3)
    assert log(1)[-1]["status"] == 499
    event.set()
    assert httpx.post(f"{url}/v2/rerank", json=GOOD).status_code == 200
    assert "at2_prune_batch_size_count 1.0" in httpx.get(f"{url}/metrics").text


def test_the_key(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25, api_key="sesame")
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "sesame"}, {"Authorization": "Bearer"}):
        answer = httpx.post(f"{url}/v2/rerank", json=GOOD, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{url}/metrics", headers=headers).status_code == 401
    for scheme in ("Bearer", "bearer"):
        right = {"Authorization": f"{scheme} sesame"}
        assert httpx.post(f"{url}/v2/rerank", json=GOOD, headers=right).status_code == 200
    for path in ("/health", "/ready", "/docs", "/openapi.json"):
        assert httpx.get(url + path).status_code == 200


def test_request_ids(serve, bm25: AT2Pruner, log) -> None:
    url, _ = serve(bm25)
    answer = httpx.post(f"{url}/v2/rerank", json=GOOD, headers={"X-Request-ID": "abc-1"})
    assert answer.headers["x-request-id"] == answer.json()["id"] == "abc-1"
    strange = httpx.post(f"{url}/v2/rerank", json=GOOD, headers={"X-Request-ID": SECRET + " and more"})
    assert SECRET not in strange.headers["x-request-id"]
    first = next(line for line in log(2) if line["message"] == "answered")
    assert {**first, "time": 0, "seconds": 0} == {
        "time": 0,
        "level": "info",
        "logger": "at2_prune.server.guard",
        "message": "answered",
        "request_id": "abc-1",
        "endpoint": "/v2/rerank",
        "status": 200,
        "seconds": 0,
        "documents": 2,
    }


def test_paths_that_are_not_there(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    assert httpx.get(f"{url}/{SECRET}").status_code == 404
    assert httpx.get(f"{url}/rerank").status_code == 405
    assert SECRET not in httpx.get(f"{url}/metrics").text


def test_a_fault_shows_no_text(serve, bm25: AT2Pruner, monkeypatch: pytest.MonkeyPatch, log) -> None:
    url, _ = serve(bm25)

    def broken(*arguments: Any) -> None:
        raise RuntimeError(f"cannot read {SECRET}")

    monkeypatch.setattr(bm25.scorer, "score", broken)
    answer = httpx.post(f"{url}/v2/rerank", json=GOOD)
    assert answer.status_code == 500
    assert SECRET not in answer.text
    lines = log(1)
    assert SECRET not in json.dumps(lines)
    fault = next(line for line in lines if line["level"] == "error")
    assert (fault["error"], fault["request_id"]) == ("RuntimeError", answer.headers["x-request-id"])
    assert "broken" in fault["places"][-1]


def test_texts_are_logged_if_the_user_asks(serve, bm25: AT2Pruner, monkeypatch: pytest.MonkeyPatch, log) -> None:
    url, _ = serve(bm25, log_texts=True)
    httpx.post(f"{url}/v2/rerank", json=GOOD)
    httpx.post(f"{url}/rerank", json={"query": "Where?", "texts": [SECRET]})
    httpx.post(f"{url}/prune", json={"question": "Where?", "passages": [SECRET, "b"], "draft": "there"})
    texts = [line["texts"] for line in log(3) if line["message"] == "answered"]
    assert texts == [
        GOOD,
        {"query": "Where?", "texts": [SECRET]},
        {"question": "Where?", "passages": [SECRET, "b"], "draft": "there"},
    ]
    assert SECRET not in httpx.get(f"{url}/metrics").text


def test_a_fault_is_logged_with_its_message_if_the_user_asks() -> None:
    try:
        raise RuntimeError(f"cannot read {SECRET}")
    except RuntimeError:
        record = logging.LogRecord("at2_prune", logging.ERROR, "", 0, "the request failed", (), sys.exc_info())
    assert json.loads(JsonFormatter(texts=True).format(record))["reason"] == f"cannot read {SECRET}"
    assert SECRET not in JsonFormatter().format(record)


def test_a_long_text_names_the_models_limit(serve, tiny_lm, tiny_pruner: AT2Pruner) -> None:
    url, _ = serve(tiny_pruner, overflow="error")
    answer = httpx.post(f"{url}/v2/rerank", json={"query": "Where?", "documents": [SECRET * 9000, "b"]}, timeout=60)
    assert answer.status_code == 422
    assert "tokens" in answer.json()["message"]
    assert SECRET not in answer.text


@pytest.mark.parametrize(("config", "key", "message"), [({"enabled": False}, None, "turn pruning"), ({}, " ", "blank")])
def test_what_cannot_be_served(config: dict, key: str | None, message: str, bm25: AT2Pruner) -> None:
    with pytest.raises(InputError, match=message):
        create_app(PruneStep(PruneConfig(**config), bm25), api_key=key)
