"""`at2-prune serve` as a process: settings, logs, and an end that finishes what was taken."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import httpx

from at2_prune import AT2Pruner, Question
from at2_prune.cli import main
from at2_prune.cli.serve import bound_socket
from at2_prune.pruning.selection import top_k

SECRET = "zanzibar"


@pytest.fixture(scope="module")
def model_folder(tiny_model, tiny_tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def command(model_folder: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts `at2-prune serve` with the tiny model, and returns the process and its URL when it is ready."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str, **environ: str) -> tuple[subprocess.Popen[str], str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        line = [sys.executable, "-m", "at2_prune", "serve", "--model", str(model_folder), "--port", port, *options]
        process = subprocess.Popen(line, env=os.environ | environ, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            try:
                assert httpx.get(f"{url}/ready").status_code == 200
                return process, url
            except httpx.TransportError:
                time.sleep(0.1)

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_options_environment_and_file(command, tmp_path: Path, question: Question, tiny_lm) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("at2-prune:\n  method: random\n  top_n: 1\n  order: score\n")
    options = ["--config", str(file), "--top-n", "2"]
    process, url = command(*options, AT2_PRUNE_METHOD="bm25", AT2_PRUNE_TOP_N="5", AT2_PRUNE_API_KEY="sesame")
    texts = [passage.text for passage in question.passages] + [f"{SECRET} is an island"]
    asked = {"question": question.text, "passages": texts}
    assert httpx.post(f"{url}/prune", json=asked).status_code == 401
    answer = httpx.post(f"{url}/prune", json=asked, headers={"Authorization": "Bearer sesame"}, timeout=60)
    scores = AT2Pruner.from_pretrained(tiny_lm, method="bm25").score(question.text, texts)
    assert [one["index"] for one in answer.json()["kept"]] == top_k(scores, 2, "score")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert lines[0]["message"] == f"serving on {url}"
    assert [line["status"] for line in lines if line["message"] == "answered"] == [401, 200]
    assert SECRET not in errors
    assert "sesame" not in errors


def test_texts_of_requests_are_logged_if_the_user_asks(command) -> None:
    process, url = command("--method", "bm25", "--log-texts")
    body = {"query": "Where?", "documents": [f"{SECRET} is an island", "another text"]}
    assert httpx.post(f"{url}/v2/rerank", json=body, timeout=60).status_code == 200
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line["texts"] for line in lines if line.get("endpoint") == "/v2/rerank"] == [body]


@pytest.mark.slow
def test_a_request_that_was_taken_is_answered_before_the_end(command, question: Question) -> None:
    slow = ["--method", "leave_one_out", "--max-new-tokens", "32", "--max-together", "1", "--timeout", "300"]
    process, url = command(*slow)
    texts = [passage.text for passage in question.passages] * 4
    answers: list[Any] = []

    def ask() -> None:
        body = {"query": question.text, "documents": texts}
        answers.append(httpx.post(f"{url}/v2/rerank", json=body, timeout=320).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while httpx.get(f"{url}/ready").json()["waiting"] < 3:  # all four are taken
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(320)
    assert answers == [200] * 4
    process.communicate(timeout=60)


def test_interrupting_it_is_no_error(command) -> None:
    process, _ = command("--method", "bm25")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(json.loads(line)["level"] == "info" for line in errors.splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-n", "0"], "top_n must be an integer of at least 1"),
        (["--method", "nonsense"], "method must be"),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--host", "nowhere.invalid", "--method", "bm25"], "nowhere.invalid:8080"),
        (["--port", "70000", "--method", "bm25"], "127.0.0.1:70000"),
        (["--drop-duplicates", "perhaps"], "drop_duplicates must be"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off for sockets that say that they are TCP; else an answer takes 40 ms more."""
    with bound_socket("127.0.0.1", 0) as address:
        assert address.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_is_one_line(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--model", str(model_folder), "--method", "bm25", "--port", port]) == 2
    assert f"127.0.0.1:{port}" in capsys.readouterr().err
