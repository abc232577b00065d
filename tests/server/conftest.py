from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest

from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.pruner import AT2Pruner


@pytest.fixture(autouse=True)
def own_log_format() -> Iterator[None]:
    """Undo what `at2-prune serve` does to the handlers of the root logger, which pytest keeps for all tests."""
    formats = [(handler, handler.formatter) for handler in logging.getLogger().handlers]
    yield
    logging.captureWarnings(False)
    for handler, form in formats:
        handler.setFormatter(form)


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]


@pytest.fixture
def texts(question: Question) -> list[str]:
    return [passage.text for passage in question.passages]


@pytest.fixture
def bm25(tiny_lm: LanguageModel) -> AT2Pruner:
    """A pruner that reads no draft, with scores that can be told in advance."""
    return AT2Pruner.from_pretrained(tiny_lm, method="bm25", max_new_tokens=8)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on loopback, and give its URL."""
    import uvicorn

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serving_app() -> Callable[[Any], AbstractContextManager[str]]:
    """Serves an application on loopback, as a context manager that gives its URL."""
    return serving


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, Any]]]:
    """Start a server with a pruner, and return its URL and its service. It ends with the test."""
    from at2_prune.server.app import create_app

    with ExitStack() as stack:

        def start(
            pruner: AT2Pruner, limits: Any = None, api_key: str | None = None, log_texts: bool = False, **config: Any
        ) -> tuple[str, Any]:
            app = create_app(PruneStep(PruneConfig(**config), pruner), limits, api_key, log_texts)
            return stack.enter_context(serving(app)), app.state.service

        yield start
