"""The server on Ray Serve: two replicas on this machine, one of which is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("ray", reason='pip install "at2-prune[ray]"')

import httpx
import ray
import torch
from ray import serve

from at2_prune import AT2Pruner, LanguageModel, Passage
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.errors import InputError
from at2_prune.scorers.scout import ScoutScorer
from at2_prune.server.logs import JsonFormatter
from at2_prune.server.ray_app import REPLICA, Replica, build

SECRET = "zanzibar"
QUESTION = f"Which river flows to {SECRET}?"
DOCUMENTS = [[f"{SECRET} {i} lies on river {j}, {i * j} km from the sea." for j in range(4)] for i in range(12)]
"""The documents of twelve requests. No two requests share one."""


@pytest.fixture(scope="module")
def coefficients() -> ScoutCoefficients:
    drawn = torch.Generator().manual_seed(0)
    own, links = torch.randn(2, 6, 2, 4, generator=drawn), torch.randn(6, 1, 4, generator=drawn)
    return ScoutCoefficients(own[0], own[1], links, (0, 1), (1,), model_type="llama", model_layers=2)


def start(folder: str, tries: int = 3) -> None:
    """Start Ray. Its own limit of 30 seconds may be too short on a busy machine."""
    try:
        ray.init(
            "local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
    except Exception as error:
        ray.shutdown()
        if tries == 1 or "timed out" not in str(error):
            raise
        start(folder, tries - 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start Ray on this machine, and return the folder of its logs."""
    folder = tempfile.mkdtemp(prefix="ray")  # a short name: the paths of sockets have at most 107 characters
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        try:
            start(folder)
            yield folder
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def url(cluster: str, tiny_model, tiny_tokenizer, coefficients, tmp_path_factory) -> Iterator[str]:
    """Serve two replicas, each with the tiny model."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    coefficients.save_pretrained(folder / "scout")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings = {"model": str(folder), "coefficients": str(folder / "scout"), "method": "scout", "top_n": "2"}
    serve.run(build({**settings, "min_replicas": "2", "max_replicas": 2, "max_together": 2}))
    address = f"http://127.0.0.1:{port}"
    more = (f"The town {i} has a bridge." for i in range(1000))
    until(lambda: ranked(address, [next(more)]) and asked_all())  # a router may learn of the second replica later
    yield address
    serve.shutdown()


@pytest.fixture
def scout(tiny_lm: LanguageModel, coefficients: ScoutCoefficients) -> AT2Pruner:
    return AT2Pruner(tiny_lm, ScoutScorer(coefficients))


def ranked(url: str, documents: list[str]) -> dict[int, float]:
    body = {"query": QUESTION, "texts": documents, "raw_scores": True}
    answer = httpx.post(f"{url}/rerank", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return {one["index"]: one["score"] for one in answer.json()}


def reports() -> dict[str, dict[str, Any]]:
    """The work of each replica, by its id."""
    handle = serve.get_deployment_handle(REPLICA, "default")
    return {one["replica"]: one for one in handle.broadcast("report").results(timeout_s=60)}


def total(of: dict[str, dict[str, Any]], count: str) -> int:
    return sum(one[count] for one in of.values())


def asked_all() -> bool:
    """Return whether two replicas have had a request."""
    return sum(one["requests"] > 0 for one in reports().values()) == 2


@pytest.mark.slow
def test_passages_stay_at_the_replica_that_has_their_keys(url: str, scout: AT2Pruner, cluster: str) -> None:
    before = reports()
    for documents in DOCUMENTS:
        expected = scout.score(QUESTION, documents)
        assert ranked(url, documents) == {i: pytest.approx(score, abs=1e-5) for i, score in enumerate(expected)}
    first = reports()
    assert total(first, "requests") - total(before, "requests") == len(DOCUMENTS)
    assert total(first, "passages") - total(before, "passages") == sum(map(len, DOCUMENTS))
    for documents in DOCUMENTS:  # again, in another order and without one
        ranked(url, documents[:0:-1])
    second = reports()
    for replica, one in second.items():
        assert one["requests"] == 2 * first[replica]["requests"] - before[replica]["requests"]
        assert one["passages"] == first[replica]["passages"]  # nothing was read again
    logs = [path.read_bytes() for path in Path(cluster).rglob("*") if path.is_file() and "log" in str(path)]
    assert any(b"/rerank" in log for log in logs)
    assert not any(SECRET.encode() in log for log in logs)


@pytest.mark.slow
def test_the_endpoints_answer_as_those_of_one_process(url: str, scout: AT2Pruner) -> None:
    asked = {"question": QUESTION, "passages": DOCUMENTS[0]}
    pruned = httpx.post(f"{url}/prune", json=asked, timeout=120).json()
    assert [one["index"] for one in pruned["kept"]] == scout.select(scout.score(QUESTION, DOCUMENTS[0]), 2)
    body = {"query": QUESTION, "documents": DOCUMENTS[0], "max_tokens_per_doc": 3, "return_documents": True}
    answer = httpx.post(f"{url}/v2/rerank", json=body, timeout=120)
    shown = {one["document"]["text"] for one in answer.json()["results"]}
    assert all(len(scout.language_model.codec.plain(text)[0]) == 3 for text in shown)
    assert {*answer.headers.get_list("x-request-id", split_commas=True)} == {answer.json()["id"]}  # Ray repeats it
    refused = httpx.post(f"{url}/v2/rerank", json={"query": " ", "documents": ["a"]})
    assert (refused.status_code, refused.json()["field"]) == (422, "query")
    unable = httpx.post(f"{url}/attribute", json={**asked, "draft": "the sea"}, timeout=120)
    assert unable.status_code == 501
    assert "coefficients" in unable.json()["message"]
    assert httpx.get(f"{url}/ready", timeout=60).json()["status"] == "ready"
    assert 'endpoint="/prune"' in httpx.get(f"{url}/metrics").text


@pytest.mark.slow
def test_no_answer_is_lost_or_wrong_when_a_replica_is_killed(url: str, scout: AT2Pruner) -> None:
    expected = [scout.score(QUESTION, documents) for documents in DOCUMENTS]
    dead = next(iter(reports()))
    answers: list[tuple[int, dict[int, float]]] = []

    def client(first: int) -> None:
        for number in range(first, first + 2 * len(DOCUMENTS)):
            which = number % len(DOCUMENTS)
            answers.append((which, ranked(url, DOCUMENTS[which])))

    threads = [threading.Thread(target=client, args=(3 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) >= 20)
    (actor,) = [one for one in ray.util.list_named_actors(all_namespaces=True) if one["name"].endswith(dead)]
    ray.kill(ray.get_actor(actor["name"], actor["namespace"]))
    for thread in threads:
        thread.join(120)
    assert len(answers) == 4 * 2 * len(DOCUMENTS)
    for which, scores in answers:
        assert scores == {i: pytest.approx(score, abs=1e-5) for i, score in enumerate(expected[which])}
    until(lambda: gone(dead))


def gone(replica: str) -> bool:
    """Return whether all reports come from other replicas. A handle may name a dead one for some time."""
    try:
        return replica not in reports()
    except ray.exceptions.RayActorError:
        return False


def until(reached: Any) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_fault_of_a_replica_shows_no_text(caplog: pytest.LogCaptureFixture) -> None:
    async def rank(request: None, question: str, passages: list[Passage]) -> None:
        raise RuntimeError(f"cannot read {question}")

    replica = Replica.__new__(Replica)
    replica.id, replica.requests, replica.service = "one", 0, SimpleNamespace(rank=rank)  # type: ignore[assignment]
    outcome = asyncio.run(replica.call("rank", question=SECRET, passages=[]))
    assert outcome.problem is not None
    assert (outcome.replica, outcome.problem.status_code) == ("one", 500)
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert (line["error"], line["replica"]) == ("RuntimeError", "one")
    assert SECRET not in json.dumps(line) + outcome.problem.detail


@pytest.mark.parametrize(
    ("args", "environ", "message"),
    [
        ({"topn": 3}, {}, "unknown key 'topn', did you mean 'top_n'"),
        ({"top_n": "0"}, {}, "top_n must be an integer of at least 1"),
        ({"min_replicas": "3", "max_replicas": 2}, {}, "min_replicas=3 and max_replicas=2"),
        ({"max_replicas": "many"}, {}, "max_replicas must be a number, got 'many'"),
        ({"max_waiting": "0"}, {}, "max_waiting must be at least 1, got 0"),
        ({"gpus": "-1"}, {}, "gpus must be at least 0, got -1"),
        ({"enabled": "off"}, {}, "turn pruning on"),
        ({}, {"AT2_PRUNE_API_KEY": " "}, "blank"),
    ],
)
def test_wrong_arguments(
    args: dict[str, Any], environ: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        build(args)


@pytest.mark.slow
def test_ray_carries_an_adapter(
    cluster: str, tiny_model, tiny_tokenizer, coefficients: ScoutCoefficients, tmp_path: Path
) -> None:
    """A task gets a LangChain compressor, cold or with its model loaded, and keeps what the driver keeps."""
    documents = pytest.importorskip("langchain_core.documents")
    compressor = pytest.importorskip("langchain_at2_prune").AT2DocumentCompressor
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    coefficients.save_pretrained(tmp_path / "scout")
    given = [documents.Document(text) for text in DOCUMENTS[0]]
    made = compressor(model=str(tmp_path), coefficients=str(tmp_path / "scout"), top_n=2)

    @ray.remote(num_cpus=0)
    def kept(one: object) -> list[str]:
        return [document.page_content for document in one.compress_documents(given, QUESTION)]  # type: ignore[attr-defined]

    cold = ray.get(kept.remote(made), timeout=240)
    here = [document.page_content for document in made.compress_documents(given, QUESTION)]
    assert len(here) == 2
    assert cold == ray.get(kept.remote(made), timeout=240) == here
