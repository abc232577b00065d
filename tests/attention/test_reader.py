"""What `read_attention` reads, against the eager attention of untouched copies of tiny models of many families."""

from __future__ import annotations

import copy
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, DynamicCache, PreTrainedModel, StaticCache
from transformers.masking_utils import AttentionMaskInterface

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from attention_parity import (
    PROMPT,
    ROWS,
    SOURCES,
    TOLERANCE,
    compare,
    expected_mass,
    generate,
    prompt_ids,
)
from exactness import eager_copy
from families import FAMILIES, PROBED, WINDOW, build

from at2_prune.attention import decoding as steps_at_once
from at2_prune.attention import reader as attention
from at2_prune.attention.hooks import enable_attention_reading, listening
from at2_prune.attention.reader import AttentionReader, read_attention
from at2_prune.attention.row_mass import SourceSums
from at2_prune.attention.rows import Reading, Rows
from at2_prune.errors import InputError, ModelNotSupportedError
from at2_prune.models.kv_cache import cache_options

READINGS = [Reading(SOURCES, ROWS)]
ALL = FAMILIES | PROBED
SLIDING = [name for name, family in FAMILIES.items() if family.sliding]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These models are too small to share out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def llama() -> PreTrainedModel:
    return build("llama")


def run(model: PreTrainedModel, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, **options).logits


def read(
    model: PreTrainedModel, ids: torch.Tensor, *rows: Rows, sources: Any = SOURCES, **options: Any
) -> torch.Tensor:
    with read_attention(model, [Reading(sources, rows)]) as reader:
        run(model, ids, **options)
    return reader.mass(rows[0].name)


# Against eager


@pytest.mark.parametrize("family", ALL)
def test_equals_eager_while_drafting_and_teacher_forced(family: str, record_property: Callable[..., None]) -> None:
    parity = compare(family)
    record_property("attention_parity", f"{parity}")
    assert parity.layers == len(ALL[family].layers)
    assert parity.worst <= TOLERANCE, parity
    assert (parity.between <= TOLERANCE) if ALL[family].cached else (parity.between > TOLERANCE / 2), parity


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_do_not_change(family: str) -> None:
    model = build(family)
    untouched, ids = copy.deepcopy(model), prompt_ids()
    expected, text = run(untouched, ids), generate(untouched, ids)
    with read_attention(model, READINGS):
        logits = run(model, ids)
    with read_attention(model, READINGS) as reader:
        assert torch.equal(generate(model, ids), text)
    assert reader.layers == list(FAMILIES[family].layers)
    assert torch.equal(logits, expected)
    assert torch.equal(run(model, ids), expected)  # nobody is listening now
    assert torch.equal(generate(model, ids), text)
    assert torch.equal(generate(eager_copy(model), ids), text)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_step_by_step_equals_eager_generation(family: str) -> None:
    model, ids = build(family), prompt_ids()
    steps = eager_copy(model).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=8,
        do_sample=False,
        output_attentions=True,
        return_dict_in_generate=True,
    )
    with read_attention(model, READINGS) as reader:
        assert torch.equal(generate(model, ids), steps.sequences)
    draft = reader.mass("draft")  # (layers, heads, rows, sources)
    for step, layers in enumerate(steps.attentions):
        for layer, weights in enumerate(layers):  # (1, heads, rows, keys), old keys dropped where a window slides
            dropped = PROMPT + step - weights.shape[-1]
            for source, (start, stop) in enumerate(SOURCES):
                part = weights[0, :, -1, max(start - dropped, 0) : max(stop - dropped, 0)].sum(-1)
                assert torch.allclose(draft[layer, :, step, source], part, atol=TOLERANCE)


def test_attention_of_the_families_is_far_from_uniform(llama: PreTrainedModel) -> None:
    weights = run_eager(llama, prompt_ids())[0][0, :, -1]
    assert (weights.amax(-1) > 3 / PROMPT).all()


def run_eager(model: PreTrainedModel, ids: torch.Tensor, **options: Any) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return eager_copy(model)(ids, use_cache=False, output_attentions=True, **options).attentions


def test_sources_may_be_tokens_and_rows_may_be_all() -> None:
    model, ids = build("gemma3"), prompt_ids()
    mass = read(model, ids, Rows("all", 0, None, "none"), sources=[(i, i + 1) for i in range(PROMPT)])
    assert torch.allclose(mass, torch.cat(run_eager(model, ids)), atol=TOLERANCE)


def test_no_sources_and_empty_sources(llama: PreTrainedModel) -> None:
    rows = Rows("last", PROMPT - 1)
    assert read(llama, prompt_ids(), rows, sources=[]).shape == (4, 4, 0)
    assert (read(llama, prompt_ids(), rows, sources=[(3, 3), (3, 3)]) == 0).all()


def test_chosen_layers_only(llama: PreTrainedModel) -> None:
    ids = prompt_ids()
    with read_attention(llama, READINGS) as whole:
        run(llama, ids)
    with read_attention(llama, READINGS, layers=[2, 0]) as some:
        run(llama, ids)
    assert some.layers == [0, 2]
    assert torch.equal(some.mass("question"), whole.mass("question")[[0, 2]])


def test_kernels_do_not_round_logits_to_sixteen_bits_and_neither_does_the_reading() -> None:
    model, ids = build("llama").bfloat16(), prompt_ids()
    seen = []

    class Both(AttentionReader):
        def __call__(self, module: Any, query: Any, key: Any, *rest: Any) -> None:
            seen.append((query, key, rest[-1]["scaling"]))
            super().__call__(module, query, key, *rest)

    enable_attention_reading(model)
    rows = Rows("last", PROMPT - 1)
    reader = Both([Reading(SOURCES, [rows])])
    with listening(reader):
        run(model, ids)
    weights = [
        (q.double()[0, :, -1:] @ k.double()[0].repeat_interleave(2, 0).transpose(1, 2) * scale).softmax(-1)
        for q, k, scale in seen
    ]
    expected = torch.stack([torch.stack([w[:, 0, a:b].sum(-1) for a, b in SOURCES], -1) for w in weights])
    assert torch.allclose(reader.mass("last"), expected.float(), atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_dropout_drops_nothing_from_the_reading(family: str) -> None:
    model, ids = build(family, attention_dropout=0.5), prompt_ids()
    evaluating = read(model, ids, Rows("last", PROMPT - 1))
    training = read(model.train(), ids, Rows("last", PROMPT - 1))
    assert torch.equal(training[0], evaluating[0])  # later layers get other inputs


# Windows and caches


@pytest.mark.parametrize("family", SLIDING)
def test_nothing_comes_from_outside_the_window(family: str) -> None:
    model = build(family)
    inside = PROMPT - WINDOW  # the first token that the last row of the prompt sees
    sources = [(0, 9), (9, inside - 4), (inside - 4, inside), (inside, inside + 9), (inside + 9, PROMPT)]
    crossing = [(inside - 4, inside + 9)]
    rows = [Rows("last", PROMPT - 1, PROMPT), Rows("draft", PROMPT - 1, None)]
    sliding = list(FAMILIES[family].sliding)
    full = [layer for layer in FAMILIES[family].layers if layer not in sliding]
    readers = []
    for spans in (sources, crossing):
        with read_attention(model, [Reading(spans, rows)]) as reader:
            generate(model, prompt_ids())
        readers.append(reader)
    for name in ("last", "draft"):
        mass, across = (reader.mass(name) for reader in readers)
        assert (mass[sliding][..., :3] == 0).all()
        assert (mass[sliding][..., 3:] > 0).all()
        assert (mass[full] > 0).all()
        assert torch.allclose(across[..., 0], mass[..., 2] + mass[..., 3], atol=TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "llama4", "qwen3-next"])
def test_prompt_in_chunks_and_a_cache_filled_before(family: str) -> None:
    model, ids = build(family), prompt_ids()
    rows = [Rows("question", 20, 43), Rows("question-max", 20, 43, "max"), Rows("each", 20, 43, "none")]
    whole, chunks, late = (AttentionReader([Reading(SOURCES[:3], rows)], past=past) for past in (0, 0, 18))
    enable_attention_reading(model)
    with listening(whole):
        run(model, ids)
    cache = DynamicCache(config=model.config)
    for start, stop in ((0, 18), (18, 37), (37, 44)):
        with listening(chunks):
            run(model, ids[:, start:stop], **cache_options(cache, model))
    cache = DynamicCache(config=model.config)
    run(model, ids[:, :18], **cache_options(cache, model))
    with listening(late):
        run(model, ids[:, 18:], **cache_options(cache, model))
    for group in rows:
        assert torch.allclose(chunks.mass(group.name), whole.mass(group.name), atol=TOLERANCE)
        assert torch.allclose(late.mass(group.name), whole.mass(group.name), atol=TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3"])
def test_generating_without_a_cache_reads_the_same(family: str) -> None:
    model, ids = build(family), prompt_ids()
    with read_attention(model, READINGS) as cached:
        generate(model, ids)
    with read_attention(model, READINGS) as uncached:
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, use_cache=False)
    for rows in ROWS:
        assert torch.allclose(uncached.mass(rows.name), cached.mass(rows.name), atol=TOLERANCE)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "phi3-longrope"])
def test_steps_are_put_off_for_so_long_only(family: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = build(family), prompt_ids()
    with read_attention(model, READINGS) as together:
        generate(model, ids)
    monkeypatch.setattr(steps_at_once, "STEPS_AT_ONCE", steps)
    sizes = []
    add = steps_at_once.DecodingSteps.add
    monkeypatch.setattr(
        steps_at_once.DecodingSteps, "add", lambda self, *given: (add(self, *given), sizes.append(self.widths))
    )
    with read_attention(model, READINGS) as apart:
        generate(model, ids)
    assert max(map(len, sizes)) == steps
    assert not apart._steps  # nor are the cache's keys held any longer
    for rows in ROWS:
        assert torch.allclose(apart.mass(rows.name), together.mass(rows.name), atol=1e-6)


def test_steps_that_are_put_off_hold_no_more_weights_than_a_pass(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt_ids()
    with read_attention(llama, READINGS) as together:
        generate(llama, ids)
    most = 2 * llama.config.num_attention_heads * (ids.shape[1] + 8)  # two rows of the longest
    monkeypatch.setattr(attention, "WEIGHTS_AT_ONCE", most)
    shapes = []
    softmax = attention.softmax_weights
    monkeypatch.setattr(attention, "softmax_weights", lambda q, k, *rest: shapes.append((q, k)) or softmax(q, k, *rest))
    with read_attention(llama, READINGS) as bounded:
        generate(llama, ids)
    assert max(query.shape[0] * query.shape[1] * key.shape[1] for query, key in shapes) <= most
    assert max(query.shape[1] for query, _ in shapes) == 2
    for rows in ROWS:
        assert torch.allclose(bounded.mass(rows.name), together.mass(rows.name), atol=1e-6)


def test_longrope_model_that_gives_its_cache_up_while_drafting() -> None:
    model, ids = build("phi3-longrope"), prompt_ids()[:, :29]  # other factors from 33 tokens on
    options: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    steps = eager_copy(model).generate(ids, **options, output_attentions=True, return_dict_in_generate=True)
    with read_attention(model, [Reading([(2, 9), (9, 25)], [Rows("draft", 28, None, "none")])]) as reader:
        assert torch.equal(model.generate(ids, **options), steps.sequences)
    assert [layers[0].shape[2] for layers in steps.attentions] == [29, 1, 1, 1, 33, 1, 1, 1]
    for step, layers in enumerate(steps.attentions):
        weights = torch.cat(layers)[:, :, -1]  # (layers, heads, keys)
        expected = torch.stack([weights[..., 2:9].sum(-1), weights[..., 9:25].sum(-1)], -1)
        assert torch.allclose(reader.mass("draft")[:, :, step], expected, atol=TOLERANCE)


# Batches


LENGTHS = (44, 39, 34)


def padded_batch(model: PreTrainedModel) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    prompts = [prompt_ids(seed)[:, :length] for seed, length in enumerate(LENGTHS)]
    batch = torch.cat([torch.nn.functional.pad(p, (PROMPT - p.shape[1], 0)) for p in prompts])
    mask = torch.cat([torch.nn.functional.pad(torch.ones_like(p), (PROMPT - p.shape[1], 0)) for p in prompts])
    inputs = {"input_ids": batch, "attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return prompts, inputs


def batch_reading(length: int) -> Reading:
    rows = [
        Rows("question", length - 7, length),
        Rows("max", length - 7, length, "max"),
        Rows("draft", length - 1, None, "none"),
    ]
    return Reading([(1, 6), (6, 11), (13, length - 9)], rows, PROMPT - length)


@pytest.mark.parametrize("family", FAMILIES)
def test_left_padded_batch_equals_one_by_one(family: str) -> None:
    # llama4's temperature counts padding as tokens, so such a batch is never run with it
    model = build(family, **({"attn_temperature_tuning": False} if family == "llama4" else {}))
    prompts, inputs = padded_batch(model)
    readings = [batch_reading(length) for length in LENGTHS]
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    with read_attention(model, readings) as drafting:
        text = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], **options)
    with read_attention(model, readings) as forced, torch.no_grad():
        model(**inputs, use_cache=False)
    for item, prompt in enumerate(prompts):
        alone = [Reading(readings[item].sources, readings[item].rows)]
        with read_attention(model, alone) as single:
            written = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        assert torch.equal(written[0, prompt.shape[1] :], text[item, PROMPT:])
        for name in ("question", "max", "draft"):
            assert torch.allclose(drafting.mass(name, item), single.mass(name), atol=TOLERANCE)
        assert torch.allclose(forced.mass("question", item), single.mass("question"), atol=TOLERANCE)
        assert torch.allclose(forced.mass("draft", item)[:, :, 0], single.mass("draft")[:, :, 0], atol=TOLERANCE)


# Memory


def held(reader: AttentionReader) -> list[torch.Tensor]:
    """Every tensor that a reader can reach."""
    found: list[torch.Tensor] = []
    todo: list[Any] = [reader]
    while todo:
        thing = todo.pop()
        if isinstance(thing, torch.Tensor):
            found.append(thing)
        elif isinstance(thing, dict):
            todo += thing.values()
        elif isinstance(thing, list | tuple):
            todo += thing
        elif hasattr(thing, "__dict__"):
            todo += vars(thing).values()
    return found


def test_holds_nothing_of_the_size_of_the_sequence_between_layers() -> None:
    model = build("llama", max_position_embeddings=1024)
    ids = torch.randint(2, 128, (1, 700), generator=torch.Generator().manual_seed(0))
    sources = [(0, 100), (100, 300), (300, 400)]
    rows = [Rows("mean", 400), Rows("max", 400, 690, "max"), Rows("each", 690, 700, "none")]
    with read_attention(model, [Reading(sources, rows)]) as reader:
        run(model, ids)
    tensors = held(reader)
    layers = heads = 4
    assert sum(t.numel() for t in tensors if t.is_floating_point()) == layers * heads * len(sources) * (1 + 1 + 10)
    assert [t.shape for t in tensors if not t.is_floating_point()] == []
    of_rows = 4 * heads * 10 * len(sources)  # of the group that is not reduced, in bytes
    assert max(t.untyped_storage().nbytes() for t in tensors) == of_rows  # no view of something larger either


@pytest.mark.parametrize("family", ["gemma3", "gemma2", "gpt-oss"])
def test_many_rows_go_block_by_block(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = build(family), prompt_ids()
    rows = [Rows("mean", 0), Rows("max", 3, None, "max"), Rows("each", 0, None, "none")]
    sizes = []

    class Watching(SourceSums):
        def of(self, item: int, weights: torch.Tensor, dropped: int) -> torch.Tensor:
            sizes.append(weights.numel())
            return super().of(item, weights, dropped)

    monkeypatch.setattr(attention, "SourceSums", Watching)
    enable_attention_reading(model)
    readers = [AttentionReader([Reading(SOURCES, rows)]) for _ in range(2)]
    with listening(readers[0]):
        run(model, ids)
    assert max(sizes) == 4 * PROMPT * PROMPT
    sizes.clear()
    monkeypatch.setattr(attention, "WEIGHTS_AT_ONCE", 5 * 4 * PROMPT)
    with listening(readers[1]):
        run(model, ids)
    assert max(sizes) == 5 * 4 * PROMPT
    for group in rows:
        assert torch.allclose(readers[1].mass(group.name), readers[0].mass(group.name), atol=1e-6)


# Threads


@pytest.mark.parametrize("family", ["gemma3", "gemma2"])
def test_threads_that_share_a_model_read_their_own_numbers(family: str) -> None:
    shared, serial = build(family), build(family)
    prompts = [prompt_ids(seed)[:, : 44 - seed] for seed in range(8)]

    def answer(model: PreTrainedModel, prompt: torch.Tensor) -> tuple[torch.Tensor, ...]:
        length = prompt.shape[1]
        rows = [Rows("question", length - 5, length), Rows("draft", length - 1, None, "none")]
        with read_attention(model, [Reading([(1, 9), (9, length - 8)], rows)]) as reader:
            text = generate(model, prompt)
        return text, reader.mass("question"), reader.mass("draft")

    expected = [answer(serial, prompt) for prompt in prompts]
    start = threading.Barrier(len(prompts))  # the first reading, which hooks into the model, is everybody's at once

    def together(prompt: torch.Tensor) -> tuple[torch.Tensor, ...]:
        start.wait()
        return answer(shared, prompt)

    with ThreadPoolExecutor(len(prompts)) as pool:
        results = list(pool.map(together, prompts))
    for result, wanted in zip(results, expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(result, wanted, strict=True))


# Flash attention: its masks are 2-d or missing, its window, sinks and soft-cap come as options


def dense_flash(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What a flash attention kernel computes, on the CPU."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    logits = torch.einsum("bhqd,bhkd->bhqk", query, key) * scaling
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    new, keys = logits.shape[-2:]
    distance = (torch.arange(new)[:, None] + keys - new) - torch.arange(keys)
    seen = (distance >= 0) if sliding_window is None else (distance >= 0) & (distance < sliding_window)
    seen = seen.expand(query.shape[0], 1, new, keys)
    if attention_mask is not None:
        assert attention_mask.dim() == 2
        seen = seen & attention_mask.bool()[:, None, None, :]
    logits = logits.masked_fill(~seen, -1e30)
    if s_aux is not None:
        logits = torch.cat([logits, s_aux.view(1, -1, 1, 1).expand(*logits.shape[:3], 1)], dim=-1)
    weights = logits.softmax(-1)[..., :keys]
    return (weights @ value).transpose(1, 2), None


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Callable[[PreTrainedModel], PreTrainedModel]:
    """Give a model `flash_attention_2`, with a kernel for the CPU in its place; the masks are transformers' own."""
    for interface, kernel in (
        (AttentionInterface, dense_flash),
        (AttentionMaskInterface, AttentionMaskInterface._global_mapping["flash_attention_2"]),
    ):
        monkeypatch.setitem(interface._global_mapping, "flash_attention_2", kernel)

    def use(model: PreTrainedModel) -> PreTrainedModel:
        model.config._attn_implementation_internal = "flash_attention_2"  # without the check for the package
        return model

    return use


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma2", "gemma3", "gpt-oss"])
def test_flash_attention(family: str, flash: Callable[[PreTrainedModel], PreTrainedModel]) -> None:
    model = flash(build(family))
    prompts, inputs = padded_batch(model)
    eager = build(family)
    eager.set_attn_implementation("eager")
    with read_attention(model, READINGS) as drafting:
        text = generate(model, prompts[0])[:, :-1]
    assert model.config._attn_implementation == "flash_attention_2"  # it loads its implementation by this name
    with read_attention(model, READINGS) as forced:
        run(model, text, use_cache=False)
    attentions = run_eager(eager, text)
    for rows in ROWS:
        wanted = expected_mass(attentions, rows, SOURCES)
        assert torch.allclose(drafting.mass(rows.name), wanted, atol=TOLERANCE)
        assert torch.allclose(forced.mass(rows.name), wanted, atol=TOLERANCE)
    readings = [batch_reading(length) for length in LENGTHS]
    with read_attention(model, readings) as batched:
        model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=4, do_sample=False)
    for item, prompt in enumerate(prompts):
        with read_attention(model, [Reading(readings[item].sources, readings[item].rows)]) as single:
            model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4, do_sample=False)
        for name in ("question", "max", "draft"):
            assert torch.allclose(batched.mass(name, item), single.mass(name), atol=TOLERANCE)


@pytest.mark.parametrize("family", ["mistral", "qwen2", "gemma2", "gemma3", "gpt-oss"])
def test_flash_attention_keeps_its_window_in_a_cache_that_does_not(
    family: str, flash: Callable[[PreTrainedModel], PreTrainedModel]
) -> None:
    model, ids = flash(build(family)), prompt_ids()
    eager = build(family)
    eager.set_attn_implementation("eager")
    cache = DynamicCache()  # of no config: every layer keeps everything
    options: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    with read_attention(model, READINGS) as drafting:
        text = model.generate(ids, **cache_options(cache), **options)[:, :-1]
    attentions = run_eager(eager, text)
    for rows in ROWS:
        assert torch.allclose(drafting.mass(rows.name), expected_mass(attentions, rows, SOURCES), atol=TOLERANCE)


# Errors


def test_rows_and_sources_must_lie_within_the_sequence(llama: PreTrainedModel) -> None:
    ids = prompt_ids()
    with pytest.raises(InputError, match=r"'late' asked for rows \[40, 50\) but the model ran 4"):
        read(llama, ids, Rows("late", 40, 50))
    with pytest.raises(InputError, match="'beyond'"):
        read(llama, ids, Rows("beyond", 44, 45))
    with pytest.raises(InputError, match="'beyond'"):
        read(llama, ids, Rows("beyond", 60))
    with pytest.raises(InputError, match="sources end at token 45, but the model ran 44"):
        read(llama, ids, Rows("last", 43), sources=[(0, 5), (5, 45)])


def test_a_model_that_overflows_is_refused(llama: PreTrainedModel) -> None:
    with torch.no_grad():
        llama.get_decoder().layers[1].self_attn.q_proj.weight.fill_(float("inf"))
    with pytest.raises(ModelNotSupportedError, match=r"group 'last' is not finite.*bfloat16 or float32"):
        read(llama, prompt_ids(), Rows("last", 43))


def test_readings_must_make_sense(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"source 1 spans tokens \(4, 9\)"):
        Reading([(0, 5), (4, 9)], [])
    with pytest.raises(InputError, match=r"source 0 spans tokens \(5, 2\)"):
        Reading([(5, 2)], [])
    with pytest.raises(InputError, match="source 0"):
        Reading([(-1, 2)], [])
    with pytest.raises(InputError, match="'none' is empty"):
        Reading([], [Rows("none", 7, 7)])
    with pytest.raises(InputError, match="'negative' is empty"):
        Reading([], [Rows("negative", -1, 7)])
    with pytest.raises(InputError, match="different names"):
        Reading([], [Rows("a", 1, 2), Rows("a", 2, 3)])
    with read_attention(llama, READINGS) as reader:
        run(llama, prompt_ids())
    with pytest.raises(InputError, match="no row group 'other'"):
        reader.mass("other")


def test_one_reading_for_each_sequence(llama: PreTrainedModel) -> None:
    with read_attention(llama, READINGS), pytest.raises(InputError, match="1 readings for a batch of 2"):
        run(llama, prompt_ids().repeat(2, 1))


def test_static_cache_is_refused(llama: PreTrainedModel) -> None:
    cache = StaticCache(config=llama.config, max_cache_len=64)
    with read_attention(llama, READINGS), pytest.raises(ModelNotSupportedError, match="static caches"):
        run(llama, prompt_ids(), **cache_options(cache, llama))
    with read_attention(llama, READINGS), pytest.raises(ModelNotSupportedError, match="static caches"):
        llama.generate(prompt_ids(), max_new_tokens=3, cache_implementation="static")


def test_two_runs_in_one_reading_are_refused(llama: PreTrainedModel) -> None:
    with read_attention(llama, READINGS):
        run(llama, prompt_ids())
        with pytest.raises(ModelNotSupportedError, match="ran twice"):
            run(llama, prompt_ids())


def test_nothing_ran(llama: PreTrainedModel) -> None:
    with read_attention(llama, READINGS) as reader:
        pass
    with pytest.raises(ModelNotSupportedError, match="the model ran no readable attention layer"):
        reader.mass("question")
