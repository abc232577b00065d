"""Mistakes in the settings of an adapter are told in at2-prune's own words, without a frame by pydantic."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("haystack")

from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, RunnableLambda
from pydantic import BaseModel, ConfigDict, ValidationError, create_model, field_validator

from at2_prune import PruneConfig
from at2_prune.errors import AT2PruneError
from haystack_at2_prune import AT2DocumentPruner
from langchain_at2_prune import AT2DocumentCompressor, AT2PruneRetriever
from llama_index.postprocessor.at2_prune import AT2Postprocessor

BASE = RunnableLambda(lambda query: [Document("Dinant lies on the Meuse."), Document("Ghent is a city.")])


def retriever(**settings: Any) -> AT2PruneRetriever:
    return AT2PruneRetriever(base_retriever=BASE, **settings)


ADAPTERS = [AT2DocumentCompressor, retriever, AT2Postprocessor, AT2DocumentPruner]
WRONG = [
    {"top_n": 0},
    {"top_n": True},
    {"order": "best"},
    {"min_score": 2},
    {"keep": "0.9"},
    {"method": "prompt_scout"},
    {"neighbors": 1},
    {"keep": "recall>=0.9", "max_tokens": 100},
    {"method": "cross_encoder"},
]
adapters = pytest.mark.parametrize("make", ADAPTERS, ids=lambda make: make.__name__)


def said(make: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
    """Return the message of the error of at2-prune that a constructor raises."""
    with pytest.raises(AT2PruneError) as raised:
        make(*arguments, **settings)
    assert not isinstance(raised.value, ValidationError)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None  # pydantic's frames are not printed
    text = str(raised.value)
    for word in ("validation error", "type=", "input_value", "pydantic"):
        assert word not in text
    return text


@adapters
@pytest.mark.parametrize("settings", WRONG, ids=str)
def test_a_wrong_setting_is_told_as_a_config_tells_it(make: Callable[..., Any], settings: dict[str, Any]) -> None:
    assert said(make, **settings) == said(PruneConfig, **settings)


@adapters
def test_a_wrong_variable_of_the_environment(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT2_PRUNE", "perhaps")
    assert said(make) == said(PruneConfig.load)
    assert "environment variable AT2_PRUNE must be true or false" in said(make)


@adapters
def test_an_unknown_setting(make: Callable[..., Any]) -> None:
    text = said(make, top_k=3)
    assert "unknown key 'top_k', did you mean 'top_n'? Allowed: " in text
    allowed = text.split("Allowed: ")[1].split(", ")
    assert {"enabled", "method", "top_n", "title_key"} <= set(allowed)
    assert len(allowed) == len(set(allowed))


@adapters
def test_something_that_is_no_pruner(make: Callable[..., Any]) -> None:
    assert said(make, pruner="x") == "pruner must be an AT2Pruner, got str: 'x'"


def test_arguments_of_a_framework() -> None:
    text = said(AT2DocumentCompressor, draft_llm=3)
    assert text == "AT2DocumentCompressor: draft_llm: Input should be an instance of Runnable, got int: 3"
    assert said(AT2PruneRetriever) == "AT2PruneRetriever needs base_retriever="
    both = said(retriever, compressor=AT2DocumentCompressor(), order="score")
    assert both == "order and a compressor were given: give these settings to the compressor, or give no compressor"


def test_a_setting_that_is_configured_at_run_time() -> None:
    configured = retriever(enabled=False).configurable_fields(top_n=ConfigurableField(id="top_n"))
    assert len(configured.invoke("Which river?", {"configurable": {"top_n": 1}})) == 2
    assert said(configured.invoke, "Which river?", {"configurable": {"top_n": 0}}) == said(PruneConfig, top_n=0)


@pytest.mark.parametrize("adapter", [AT2DocumentCompressor, AT2Postprocessor])
def test_validation_by_pydantic_is_as_before(adapter: type[BaseModel]) -> None:
    holder = create_model("Holder", __config__=ConfigDict(arbitrary_types_allowed=True), adapter=(adapter, ...))
    assert holder.model_validate({"adapter": {"top_n": 2}}).adapter.top_n == 2  # type: ignore[attr-defined]
    for wrong in ({"top_n": 0}, {"top_k": 1}, {"method": "cross_encoder"}):
        with pytest.raises(ValidationError):
            adapter.model_validate(wrong)
        with pytest.raises(ValidationError) as raised:
            holder(adapter=wrong)
        assert raised.value.errors()[0]["loc"][0] == "adapter"


@pytest.mark.parametrize("adapter", [AT2DocumentCompressor, AT2Postprocessor])
def test_a_class_that_inherits_from_an_adapter(adapter: type[Any]) -> None:
    class Own(adapter):  # type: ignore[misc]
        label: str = "none"

        @field_validator("label")
        @classmethod
        def _short(cls, value: str) -> str:
            if len(value) > 9:
                raise ValueError(f"label must have at most nine letters, got {value!r}")
            return value

    own = Own(label="mine", top_n=2)
    assert (own.label, own.top_n, own.step.config) == ("mine", 2, PruneConfig(top_n=2))
    assert said(Own, label="much too long") == "label must have at most nine letters, got 'much too long'"
    assert said(Own, top_n=0) == said(PruneConfig, top_n=0)
    for copied in (copy.copy(own), copy.deepcopy(own), own.model_copy(deep=True)):
        assert (copied.label, copied.top_n) == ("mine", 2)


def test_settings_travel_as_before() -> None:
    compressor = AT2DocumentCompressor(top_n=2, order="score")
    assert pickle.loads(pickle.dumps(compressor)).step.config == compressor.step.config
    assert AT2DocumentCompressor.model_validate(compressor.model_dump()).step.config == compressor.step.config
    postprocessor = AT2Postprocessor(top_n=2, order="score")
    assert AT2Postprocessor.from_dict(postprocessor.to_dict()).step.config == postprocessor.step.config
    component = AT2DocumentPruner(top_n=2, order="score")
    assert AT2DocumentPruner.from_dict(component.to_dict()).config == component.config


@pytest.mark.parametrize("adapter", [AT2DocumentCompressor, AT2Postprocessor])
def test_the_arguments_are_in_the_signature(adapter: type[BaseModel]) -> None:
    assert {"top_n", "method", "draft_llm", "pruner"} <= inspect.signature(adapter).parameters.keys()
