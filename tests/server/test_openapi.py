"""The OpenAPI page: its examples run, and bodies made from its schema find no fault of the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("schemathesis")

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from at2_prune import AT2Pruner, LanguageModel, PruneConfig
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.pipeline.step import PruneStep
from at2_prune.server.app import create_app
from at2_prune.server.limits import Limits

WORK = ["/v2/rerank", "/v1/rerank", "/rerank", "/prune", "/attribute"]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def url(tiny_model, tiny_tokenizer, serving_app) -> Iterator[str]:
    lm = LanguageModel(tiny_model, tiny_tokenizer, name="tiny-random-llama")
    pruner = AT2Pruner.from_pretrained(lm, HeadCoefficients.average(2, 4, "llama"), max_new_tokens=4)
    with serving_app(
        create_app(PruneStep(PruneConfig(), pruner), Limits(max_documents=20, max_characters=20_000))
    ) as url:
        yield url


@pytest.fixture(scope="module")
def schema(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_endpoint_has_examples_that_run(url: str) -> None:
    page = httpx.get(f"{url}/openapi.json").json()
    assert set(page["paths"]) == {*WORK, "/health", "/ready", "/metrics"}
    for path in WORK:
        reference = page["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        examples = page["components"]["schemas"][reference.rpartition("/")[2]]["examples"]
        assert examples
        for example in examples:
            answer = httpx.post(url + path, json=example, timeout=60)
            assert answer.status_code == 200, answer.text


def test_the_page_is_served(url: str) -> None:
    assert "openapi.json" in httpx.get(f"{url}/docs").text


@pytest.mark.parametrize("mode", [*GenerationMode], ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("path", WORK)
def test_no_body_finds_a_fault(path: str, mode: GenerationMode, schema: Any) -> None:
    """Valid and invalid bodies: no 5xx, and every answer is one that the schema declares."""

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=schema[path]["POST"].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    check()
