"""The name under which the installed transformers, or a class from elsewhere, takes a cache and returns it."""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from at2_prune.models.kv_cache import CACHE_NAMES, cache_options, output_cache

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import FAMILIES, PROBED, build


@pytest.mark.parametrize("name", [*FAMILIES, *PROBED])
def test_a_cache_goes_in_and_out_by_the_names_that_are_not_deprecated(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger: Any = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "propagate", True)
    logger.warning_once.cache_clear()  # it says a thing once a process
    model: Any = build(name)
    layer = (FAMILIES | PROBED)[name].layers[0]
    ids = torch.arange(2, 32)[None]
    for module in (model, model.get_decoder()):
        (argument,) = cache_options(None, module)
        assert argument in inspect.signature(module.forward).parameters
    with warnings.catch_warnings(), torch.no_grad(), caplog.at_level(logging.WARNING, logger="transformers"):
        warnings.simplefilter("error")
        for module in (model, model.get_decoder()):
            cache = output_cache(module(ids, use_cache=True, **cache_options(None, module)))
            assert cache.get_seq_length(layer) == 30
            ones = torch.ones(1, 31, dtype=torch.long)
            output = module(ids[:, :1], attention_mask=ones, use_cache=True, **cache_options(cache, module))
            assert output_cache(output).get_seq_length(layer) == 31
        cache = output_cache(model(ids[:, :-1], use_cache=True))
        text = model.generate(ids, **cache_options(cache), max_new_tokens=2, do_sample=False)
    assert text.shape == (1, 32)
    assert not [record for record in caplog.records if "deprecated" in record.getMessage()]


class Elsewhere(torch.nn.Module):
    """A class that is loaded with trust_remote_code, written for an earlier transformers."""

    def forward(self, input_ids: torch.Tensor, past_key_values: Any = None) -> CausalLMOutputWithPast:
        return CausalLMOutputWithPast(past_key_values=past_key_values)


class Wrapper(torch.nn.Module):
    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


def test_classes_from_elsewhere() -> None:
    cache = object()
    module = Elsewhere()
    assert cache_options(cache, module) == {"past_key_values": cache}
    assert output_cache(module(torch.zeros(1, 1), **cache_options(cache, module))) is cache
    assert cache_options(cache, Wrapper()) == cache_options(cache)  # its signature names no cache
    assert set(cache_options(cache)) <= set(CACHE_NAMES)
