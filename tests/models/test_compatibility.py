"""What `Compatibility` claims about a model is what plain passes of an untouched copy show, on every family."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from at2_prune.attention.reader import read_attention
from at2_prune.attention.rows import Reading, Rows
from at2_prune.datasets import Question
from at2_prune.models import probe
from at2_prune.models.compatibility import TESTED_TYPES, Compatibility
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.probe import largest_window
from at2_prune.pruning.pruner import AT2Pruner

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from attention_parity import TOLERANCE, compare_model
from exactness import Exactness, exactness, is_batch_exact, is_prefix_exact
from families import COMMON, FAMILIES, PROBED, WINDOW, build

CLAIMS = ("shares_prefixes", "pads_exactly", "joins_caches", "carries_state")
RECURRENT = {
    *("qwen3-next", "qwen3.5", "kimi-linear", "jamba", "lfm2", "granite-moe-hybrid"),
    *("minimax", "nemotron-h"),
}
DECODERS = {"roc-bert", "bart"}
"""Their cache has room for an encoder's keys and values, and is not joined."""
SHARING = {"mixtral", "bert", "ernie", *DECODERS}


def tokens(length: int, seed: int) -> torch.Tensor:
    return torch.randint(3, 120, (1, length), generator=torch.Generator().manual_seed(seed))


def in_the_docs(name: str) -> list[str]:
    """A family's row of the table in docs/models.md."""
    rows = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8").splitlines()
    return next(row.split() for row in rows if row.split()[:1] == [name])


@pytest.mark.parametrize("name", [*FAMILIES, *PROBED])
def test_claims_are_what_plain_passes_show(name: str) -> None:
    model = build(name)
    allowed = Compatibility(model)
    assert allowed.is_tested == (name in FAMILIES)
    plain = exactness(model)
    words = ["exact" if each else "differs" for each in (plain.prefix, plain.batch, plain.ablation)]
    assert in_the_docs(name)[-3:] == words
    if name in RECURRENT:  # some share a prefix exactly, but a state can be neither joined nor cut
        assert not allowed.shares_prefixes
    else:
        assert allowed.shares_prefixes == plain.prefix
    assert allowed.pads_exactly == plain.batch
    assert allowed.carries_state == (not plain.ablation)
    assert plain.ablation == (FAMILIES | PROBED)[name].positions
    assert allowed.joins_caches == (allowed.shares_prefixes and allowed.pads_exactly and name not in DECODERS)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_probe_agrees_with_the_tables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family that the tests cover gets the same answers from a probe."""
    claims = [getattr(Compatibility(build(name)), claim) for claim in CLAIMS]
    monkeypatch.setattr("at2_prune.models.compatibility.TESTED_TYPES", frozenset())
    # transformers' default chunk is longer than a probe
    model = build(name, mamba_chunk_size=WINDOW) if name == "granite-moe-hybrid" else build(name)
    assert [getattr(Compatibility(model), claim) for claim in CLAIMS] == claims


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(PROBED))
def test_probed_families_in_every_precision(name: str, dtype: torch.dtype) -> None:
    allowed = Compatibility(build(name).to(dtype))
    assert allowed.shares_prefixes == (name in SHARING)
    assert allowed.pads_exactly == ((name in SHARING and name != "bart") or name == "nemotron-h")
    assert allowed.joins_caches == (name in SHARING - DECODERS)


def test_the_tables_name_the_families_that_are_tested() -> None:
    built_types = {getattr(transformers, family.config).model_type for family in FAMILIES.values()}
    assert built_types <= TESTED_TYPES
    # `test_a_wrapper_for_images`, and families not installed
    assert TESTED_TYPES - built_types <= {"gemma3", "gemma4", "qwen3_5"}


def test_layers_of_their_own_keys_in_a_family_that_may_share_them() -> None:
    """The table has this family with layers that share keys."""
    model = build("gemma3n", num_kv_shared_layers=0)
    allowed = Compatibility(model)
    assert allowed.is_tested
    assert exactness(model) == Exactness(prefix=True, batch=True, ablation=True)
    assert [getattr(allowed, claim) for claim in CLAIMS] == [True, True, True, False]
    assert compare_model("gemma3n", model).worst <= TOLERANCE


@pytest.mark.parametrize("name", ["gemma3", "gemma4"])
def test_a_wrapper_for_images(name: str) -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    wrapper: Any = transformers.Gemma3Config if name == "gemma3" else transformers.Gemma4Config
    options = {"vision_config": {**vision, "image_size": 28, "patch_size": 14}} if name == "gemma3" else {}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(wrapper(text_config={**COMMON, **FAMILIES[name].options}, **options))
    model = model.eval()
    assert model.config.model_type == name
    allowed = Compatibility(model)
    assert allowed.is_tested
    assert allowed.shares_prefixes == is_prefix_exact(model)
    assert allowed.pads_exactly == is_batch_exact(model)


# What is not known


def test_names_alone_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of layer that is not listed, and a class from elsewhere that takes a tested type's name."""
    model = build("llama")
    assert Compatibility(model).is_tested
    monkeypatch.setattr(model.config, "layer_types", ["some_new_attention"] * 4, raising=False)
    assert not Compatibility(model).is_tested
    other = build("llama")
    other.__class__ = type("LlamaForCausalLM", (type(other),), {"__module__": "elsewhere.modeling"})
    assert not Compatibility(other).is_tested
    assert Compatibility(other).shares_prefixes  # measured


def test_settings_that_no_test_covers() -> None:
    model = build("gemma3", use_bidirectional_attention=True)
    allowed = Compatibility(model)
    assert not allowed.is_tested
    assert not allowed.shares_prefixes
    assert not is_prefix_exact(model)
    assert not Compatibility(build("gemma4", num_kv_shared_layers=2, hidden_size_per_layer_input=8)).is_tested


@pytest.mark.parametrize(
    ("name", "options"),
    [("mixtral", {"sliding_window": 1024}), ("moshi", {"sliding_window": 3000}), ("glm-moe-dsa", {"index_topk": 2048})],
)
def test_a_window_longer_than_a_probe(name: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing beyond it would be seen, so every claim gets the slower answer without a pass."""
    model = build(name, **options)
    passes: list[int] = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    with caplog.at_level(logging.INFO, logger="at2_prune"):
        assert [getattr(Compatibility(model), claim) for claim in CLAIMS] == [False, False, False, True]
    assert not passes
    assert f"a window of {next(iter(options.values()))} tokens" in caplog.text


def test_windows_that_a_config_names() -> None:
    assert largest_window(build("llama").config) == 0
    assert largest_window(build("mistral").config) == WINDOW
    assert largest_window(build("deepseek-v32").config) == WINDOW


def test_a_model_that_cannot_be_probed(caplog: pytest.LogCaptureFixture) -> None:
    """On the meta device, without readable attention, with a vocabulary of one token, or too short a context."""
    bloom = AutoModelForCausalLM.from_config(transformers.BloomConfig(n_layer=1, n_head=4, hidden_size=32)).eval()
    mixtral = {**COMMON, **PROBED["mixtral"].options}
    one = AutoModelForCausalLM.from_config(transformers.MixtralConfig(**{**mixtral, "vocab_size": 1})).eval()
    short = AutoModelForCausalLM.from_config(
        transformers.MixtralConfig(**{**mixtral, "max_position_embeddings": 20})
    ).eval()
    for model in (build("mixtral").to("meta"), bloom, one, short):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="at2_prune"):
            assert [getattr(Compatibility(model), claim) for claim in CLAIMS] == [False, False, False, True]
        assert "the probe failed" in caplog.text


# Run once


def test_a_claim_is_measured_once_for_a_model(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks, in how many threads, and the random numbers of others stay what they were."""
    model = build("mixtral")
    passes: list[int] = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with caplog.at_level(logging.INFO, logger="at2_prune"), ThreadPoolExecutor(4) as pool:
        asked = pool.map(lambda _: Compatibility(model).shares_prefixes, range(8))
        assert list(asked) == [True] * 8
    assert torch.equal(torch.rand(1), expected)
    assert caplog.text.count("shares_prefixes is True") == 1
    ran = len(passes)
    assert ran > 0
    assert Compatibility(model).shares_prefixes
    assert len(passes) == ran
    assert Compatibility(model).pads_exactly  # another claim, another measurement
    assert len(passes) > ran
    Compatibility(model).measure()
    ran = len(passes)
    assert [getattr(Compatibility(model), claim) for claim in CLAIMS] == [True, True, True, False]
    assert len(passes) == ran


def test_a_tested_family_is_not_run() -> None:
    model = build("llama")
    passes: list[int] = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    assert [getattr(Compatibility(model), claim) for claim in CLAIMS] == [True, True, True, False]
    assert not passes


def test_what_was_measured_goes_with_the_model() -> None:
    model = build("mixtral")
    assert Compatibility(model).shares_prefixes
    gone = weakref.ref(model)
    before = len(probe._records)
    del model
    gc.collect()
    assert gone() is None
    assert len(probe._records) < before


def test_a_probe_is_not_seen_by_a_reading_in_progress() -> None:
    model, ids = build("mixtral"), tokens(40, 0)
    with torch.no_grad(), read_attention(model, [Reading([(0, 9)], [Rows("last", 39, 40)])]) as reader:
        assert Compatibility(model).shares_prefixes
        model(ids, use_cache=False)
    with torch.no_grad(), read_attention(model, [Reading([(0, 9)], [Rows("last", 39, 40)])]) as again:
        model(ids, use_cache=False)
    assert torch.equal(reader.mass("last"), again.mass("last"))


# What a user sees


@pytest.mark.parametrize("name", [*PROBED, "minicpm3", "gemma3n", "qwen3.5", "kimi-linear"])
def test_scores_and_answers_are_those_of_the_plain_way(
    name: str,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sample_questions: list[Question],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shared prefixes, batches and joined caches give what a model that allows none of them gives."""
    sizes: dict[str, Any] = {"vocab_size": len(tiny_tokenizer), "max_position_embeddings": 4096}
    if name == "gemma3n":
        sizes["vocab_size_per_layer_input"] = len(tiny_tokenizer)
    model = build(name, **sizes)
    questions = sample_questions[:2]

    def results() -> list[Any]:
        pruner = AT2Pruner.from_pretrained(
            LanguageModel(model, tiny_tokenizer), method="average_attention", max_new_tokens=4
        )
        found: list[Any] = []
        for question in questions:
            passages = question.passages[:4]
            result = pruner.answer(question.text, passages, k=2)
            found.append((result.answer, result.kept, pruner.score(question.text, passages)))
        return found

    ours = results()
    for claim in CLAIMS:
        monkeypatch.setattr(Compatibility, claim, claim == "carries_state")
    for (answer, kept, scores), (plain_answer, plain_kept, plain_scores) in zip(ours, results(), strict=True):
        assert (answer, kept) == (plain_answer, plain_kept)
        assert scores == pytest.approx(plain_scores, abs=1e-5)
