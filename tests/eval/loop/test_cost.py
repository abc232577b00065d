"""What is measured: tokens counted by layer and by gradient, seconds that pass, memory that is held for a moment."""

from __future__ import annotations

import mmap
import sys
import time

import pytest
import torch

from at2_prune.models.language_model import LanguageModel
from at2_prune_eval.loop.cost import Cost, metered

TOKENS = 7


def run(language_model: LanguageModel) -> None:
    language_model.model(torch.arange(1, 2 * TOKENS + 1).reshape(2, TOKENS), use_cache=False)


def test_a_token_is_one_that_ran_through_all_layers(tiny_lm: LanguageModel) -> None:
    with metered(tiny_lm) as nothing:
        pass
    assert nothing.cost.tokens == 0
    with metered(tiny_lm) as once, torch.no_grad():
        run(tiny_lm)
    assert once.cost.tokens == 2 * TOKENS
    with metered(tiny_lm) as twice, torch.no_grad():
        run(tiny_lm)
        run(tiny_lm)
    assert twice.cost.tokens == 4 * TOKENS
    with metered(tiny_lm) as with_gradients:
        run(tiny_lm)
    assert with_gradients.cost.tokens == 3 * 2 * TOKENS  # forward, and twice that back


def test_a_pass_that_stops_early_counts_in_part(tiny_lm: LanguageModel) -> None:
    layers = tiny_lm.model.config.num_hidden_layers
    hidden = tiny_lm.model.get_input_embeddings()(torch.arange(TOKENS)[None])
    places = torch.arange(TOKENS)[None]
    with metered(tiny_lm) as meter, torch.no_grad():
        rotary = tiny_lm.model.model.rotary_emb(hidden, places)
        tiny_lm.model.model.layers[0](hidden, position_embeddings=rotary, position_ids=places)
    assert layers > 1
    assert meter.cost.tokens == pytest.approx(TOKENS / layers, abs=1e-3)
    after = meter.cost
    run(tiny_lm)  # outside: the hooks are gone
    assert meter.cost == after


def test_seconds_are_the_clocks(tiny_lm: LanguageModel) -> None:
    with metered(tiny_lm) as meter:
        time.sleep(0.05)
    assert 0.05 <= meter.cost.seconds < 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process's peak memory")
def test_memory_is_the_peak_above_the_beginning(tiny_lm: LanguageModel) -> None:
    megabyte = b"1" * 2**20
    with metered(tiny_lm) as held, mmap.mmap(-1, 64 * 2**20) as block:  # not from an allocator, which may hold some
        for _ in range(64):
            block.write(megabyte)
    with metered(tiny_lm) as nothing:
        pass
    assert held.cost.memory > 48 * 2**20
    assert nothing.cost.memory < 16 * 2**20


def test_costs_add_up_and_are_shared() -> None:
    both = Cost(1.0, 10.0, 5) + Cost(2.0, 20.0, 3)
    assert both == Cost(3.0, 30.0, 5)  # one after the other: the higher peak is both's
    assert both.share(4) == Cost(0.75, 7.5, 5)
