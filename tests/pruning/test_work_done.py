"""What is computed, counted without a clock: forward passes, rows, layers, rows of logits, products, bytes."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from at2_prune.ablation import ablation_outcomes, random_masks
from at2_prune.ablation.tree import LOGITS_AT_ONCE
from at2_prune.ablation.whole import TOKENS_AT_ONCE
from at2_prune.attention.rows import Reading, RowGroup, Rows
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.datasets import Question
from at2_prune.models.drafts import Draft, write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.models.shared_prefix import write_answers
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import LearnedScorer, LeaveOneOutScorer, Task
from at2_prune.scorers.scout import ScoutScorer

NEW = 8
LAYERS, HEADS, HEAD_DIM = 2, 4, 8  # of the tiny model
DRAFT_ROWS = (RowGroup("draft"),)


@dataclass
class Work:
    passes: list[int] = field(default_factory=list)
    """Rows of every forward pass through the model's body."""
    layers: list[tuple[int, int]] = field(default_factory=list)
    """Layer and rows, for every layer that ran."""
    logits: list[int] = field(default_factory=list)
    """Rows that the output layer was given, each time it ran."""


@contextmanager
def counted(lm: LanguageModel) -> Iterator[Work]:
    work = Work()
    model: Any = lm.model
    body = model.get_decoder()

    def on_pass(module: Any, args: Any, kwargs: Any) -> None:
        work.passes.append((kwargs["input_ids"] if "input_ids" in kwargs else args[0]).numel())

    def on_layer(index: int) -> Any:
        return lambda module, args: work.layers.append((index, args[0].shape[1]))

    hooks = [body.register_forward_pre_hook(on_pass, with_kwargs=True)]
    hooks += [layer.register_forward_pre_hook(on_layer(index)) for index, layer in enumerate(body.layers)]
    hooks.append(model.lm_head.register_forward_pre_hook(lambda module, args: work.logits.append(args[0].shape[1])))
    try:
        yield work
    finally:
        for hook in hooks:
            hook.remove()


def products(lm: LanguageModel, run: Any) -> int:
    """Floating-point operations of all matrix products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def bytes_held(thing: Any, seen: dict[int, int] | None = None) -> int:
    """Memory of every tensor that can be reached from an object, storages counted whole and once."""
    top, seen = seen is None, {} if seen is None else seen
    if isinstance(thing, torch.Tensor):
        seen[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    elif isinstance(thing, dict):
        for value in thing.values():
            bytes_held(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            bytes_held(value, seen)
    elif hasattr(thing, "__dict__"):
        bytes_held(vars(thing), seen)
    return sum(seen.values()) if top else 0


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]


@pytest.fixture
def prompt(tiny_lm: LanguageModel, question: Question) -> EncodedPrompt:
    return tiny_lm.encode(question.text, question.passages)


def drafted(lm: LanguageModel, prompt: EncodedPrompt, groups: Any = DRAFT_ROWS) -> Any:
    return write_drafts(lm, [prompt], groups, NEW)[0]


def test_draft_and_score_are_one_prefill_and_one_step_a_token(
    tiny_pruner: AT2Pruner, question: Question, prompt: EncodedPrompt
) -> None:
    lm = tiny_pruner.language_model
    with counted(lm) as plain:
        lm.generate([prompt], NEW)
    with counted(lm) as work:
        tiny_pruner.score(question.text, question.passages)
    assert work == plain
    assert work.passes == [len(prompt)] + [1] * (len(work.passes) - 1)
    assert 1 < len(work.passes) <= NEW
    assert work.logits == [1] * len(work.passes)


def test_a_batch_is_drafted_and_read_in_the_passes_of_its_generation(
    tiny_pruner: AT2Pruner, sample_questions: list[Question]
) -> None:
    lm, some = tiny_pruner.language_model, sample_questions[:3]
    passages = [question.passages[: 2 + i] for i, question in enumerate(some)]
    prompts = [lm.encode(question.text, shown) for question, shown in zip(some, passages, strict=True)]
    with counted(lm) as plain:
        lm.generate(prompts, NEW)
    with counted(lm) as work:
        tiny_pruner.score_batch([question.text for question in some], passages)
    assert work == plain
    assert work.passes[0] == 3 * max(map(len, prompts))
    with counted(lm) as work:
        tiny_pruner.answer_batch([question.text for question in some], passages, 1)
    assert work.passes[: len(plain.passes)] == plain.passes
    assert sum(rows > 3 for rows in work.passes) == 2  # and the short prompts, as one batch


def test_reading_adds_one_product_a_row_and_layer(tiny_lm: LanguageModel, prompt: EncodedPrompt) -> None:
    plain = products(tiny_lm, lambda: tiny_lm.generate([prompt], NEW))
    draft = drafted(tiny_lm, prompt)
    read = products(tiny_lm, lambda: drafted(tiny_lm, prompt))
    with counted(tiny_lm) as work:
        drafted(tiny_lm, prompt)
    steps = len(work.passes) - 1
    keys = [len(prompt)] + steps * [len(prompt) + steps]  # a step's row is computed with those of the last one
    assert draft.ids
    assert read - plain == sum(2 * LAYERS * HEADS * HEAD_DIM * count for count in keys)


def test_a_given_draft_takes_one_pass_that_ends_with_the_last_attention(
    tiny_pruner: AT2Pruner, question: Question, prompt: EncodedPrompt
) -> None:
    lm = tiny_pruner.language_model
    ids = lm.encode_draft("the river Meuse")
    with counted(lm) as work:
        tiny_pruner.score(question.text, question.passages, draft="the river Meuse")
    rows = len(prompt) + len(ids) - 1
    assert work == Work([rows], [(0, rows), (1, rows)], [])
    with counted(lm) as work:  # a draft of its own costs nothing
        draft = tiny_pruner.draft(question.text, question.passages)
        own = len(work.passes)
        tiny_pruner.score(question.text, question.passages, draft=draft)
    assert len(work.passes) == own


def test_an_answer_is_the_draft_and_one_short_answer_and_their_beginning_once(
    tiny_pruner: AT2Pruner, question: Question, prompt: EncodedPrompt
) -> None:
    lm = tiny_pruner.language_model
    head = prompt.sources[0][0]
    with counted(lm) as work:
        result = tiny_pruner.answer(question.text, question.passages, 2)
    shown = [question.passages[i] for i in sorted(result.kept)]
    with counted(lm) as alone:
        for passages in (question.passages, shown):
            lm.generate([lm.encode(question.text, passages)], tiny_pruner.max_new_tokens)
    assert work.passes == [head, *(rows - head if rows > 1 else 1 for rows in alone.passes)]
    assert work.logits == alone.logits
    assert sum(rows for _, rows in work.layers) == sum(rows for _, rows in alone.layers) - LAYERS * head
    with counted(lm) as work:  # nothing is dropped: the draft is the answer
        tiny_pruner.answer(question.text, question.passages, len(question.passages))
    assert [rows for rows in work.passes if rows > 1] == [head, len(prompt) - head]


def test_the_surest_of_several_answers_runs_what_they_share_once(
    tiny_pruner: AT2Pruner, question: Question, prompt: EncodedPrompt
) -> None:
    lm = tiny_pruner.language_model
    with counted(lm) as work:
        result = tiny_pruner.answer(question.text, question.passages, "auto")
    prefix: set[tuple[int, ...]] = set()
    for candidate in result.candidates:
        ids = lm.encode(question.text, [question.passages[i] for i in candidate.kept]).ids
        prefix |= {tuple(ids[: stop + 1]) for stop in range(len(ids))}
    least = len(prefix) + len(prompt) - prompt.sources[0][0]
    steps = (len(result.candidates) + 1) * 2 * tiny_pruner.max_new_tokens  # wrong guesses included
    alike = 8 * len(result.candidates)  # different passages may begin with the same few tokens
    assert least <= sum(work.passes) <= least + steps + alike


def test_layers_without_coefficients_are_not_read(
    tiny_lm: LanguageModel, question: Question, prompt: EncodedPrompt
) -> None:
    weight = torch.randn(1, LAYERS, HEADS, generator=torch.Generator().manual_seed(3))
    weight[:, 1] = 0
    full = HeadCoefficients(weight, DRAFT_ROWS, model_type="llama")
    pruner = AT2Pruner(tiny_lm, LearnedScorer(full, "sparse"), max_new_tokens=NEW)
    with counted(tiny_lm) as work:
        pruner.score(question.text, question.passages, draft="the Meuse")
    assert {layer for layer, _ in work.layers} == {0}
    draft = pruner.draft(question.text, question.passages)
    assert draft.readout is not None
    assert draft.readout.layers == [0]
    everything = drafted(tiny_lm, prompt, DRAFT_ROWS)
    own = pruner.score(question.text, question.passages, draft=draft)
    assert own == pytest.approx(full.score(everything.readout.mass, everything.readout.layers).tolist(), abs=1e-6)


@pytest.mark.parametrize("kind", ["leave-one-out", "random"])
def test_ablations_share_prefixes_and_want_the_targets_rows_only(
    tiny_lm: LanguageModel, question: Question, prompt: EncodedPrompt, kind: str
) -> None:
    sources = len(prompt.sources)
    target = tiny_lm.encode_draft("the Meuse")
    if kind == "random":
        masks = random_masks(sources, 32, torch.Generator().manual_seed(0)).unique(dim=0)
        with counted(tiny_lm) as work:
            ablation_outcomes(tiny_lm, prompt, target, masks)
    else:
        masks = torch.cat([torch.ones(1, sources, dtype=torch.bool), ~torch.eye(sources, dtype=torch.bool)])
        task = Task(tiny_lm, question.text, question.passages, prompt, Draft("the Meuse", target))
        with counted(tiny_lm) as work:
            LeaveOneOutScorer().score(task)
    plain = len(masks) * (len(prompt) + len(target) - 1)
    heads = -(-len(masks) // (LOGITS_AT_ONCE // len(target)))
    assert sum(work.passes) - heads == _tokens_of_the_tree(prompt, len(target), masks) < plain / 2
    assert sum(work.logits) == len(masks) * len(target)
    assert len(work.logits) == heads < len(masks) / 4  # the rows of many ablations go through together


def test_ablations_in_batches_take_few_passes(
    tiny_lm: LanguageModel, prompt: EncodedPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: what is left out is not run, ablations that agree are run once, and little is padding."""
    monkeypatch.setattr(LanguageModel, "batching_pays", True)
    target = tiny_lm.encode_draft("the Meuse")
    masks = random_masks(len(prompt.sources), 32, torch.Generator().manual_seed(0))
    with counted(tiny_lm) as work:
        ablation_outcomes(tiny_lm, prompt, target, torch.cat([masks, masks]))
    unique = masks.unique(dim=0).tolist()
    ids = len(prompt) + len(target) - 1
    lengths = [sum(_shown(position, prompt, mask) for position in range(ids)) for mask in unique]
    assert len(work.passes) <= sum(lengths) / TOKENS_AT_ONCE + 2 < len(unique) / 4
    assert sum(lengths) <= sum(work.passes) < 1.25 * sum(lengths) < len(unique) * ids
    assert work.logits == [len(target)] * len(work.passes)  # of every ablation in the pass


def _tokens_of_the_tree(prompt: EncodedPrompt, target: int, masks: torch.Tensor) -> int:
    """Tokens of all different beginnings, and for each mask what follows the last source: the least there is to run."""
    ids, starts = len(prompt) + target - 1, [start for start, _ in prompt.sources]
    kept = [[position for position in range(ids) if _shown(position, prompt, mask)] for mask in masks.tolist()]
    beginnings = {tuple(row[:end]) for row in kept for end in range(1, len(row) + 1) if row[end - 1] < starts[-1]}
    return len(beginnings) + sum(sum(position >= starts[-1] for position in row) for row in kept)


def _shown(position: int, prompt: EncodedPrompt, mask: list[bool]) -> bool:
    return not any(
        not keep and start <= position < stop for keep, (start, stop) in zip(mask, prompt.sources, strict=True)
    )


def test_answers_with_shared_beginnings_run_less(tiny_lm: LanguageModel, question: Question) -> None:
    prompts = [tiny_lm.encode(question.text, question.passages[:count]) for count in (3, 4, 5)]
    with counted(tiny_lm) as work:
        write_answers(tiny_lm, prompts, (), 1)
    with counted(tiny_lm) as alone:
        for prompt in prompts:
            tiny_lm.generate([prompt], 1)
    assert sum(work.passes) < 0.6 * sum(alone.passes)
    assert work.logits == [1] * len(prompts)


def test_memory_held_is_linear_in_sources(tiny_lm: LanguageModel, question: Question) -> None:
    held = {}
    for count in (2, 4, 8):
        prompt = tiny_lm.encode(question.text, question.passages[:count])
        rows = [Rows("draft", len(prompt) - 1, None, "none"), Rows("question", *prompt.question)]
        _, reader = tiny_lm.generate([prompt], NEW, [Reading(prompt.sources, rows)])
        span = prompt.sources[-1][1] - prompt.sources[0][0]
        with counted(tiny_lm) as work:
            tiny_lm.generate([prompt], NEW)
        entries = LAYERS * HEADS * (len(work.passes) * count + count)  # of the draft's rows, and of the question's mean
        held[count] = bytes_held(reader)
        assert held[count] == 4 * entries + 8 * span  # and which source a token belongs to
        assert held[count] < LAYERS * HEADS * NEW * len(prompt) * 4  # all weights of the draft's rows
    assert held[8] - held[4] < 2.5 * (held[4] - held[2])


def test_a_draft_holds_nothing_of_the_model_s_pass(tiny_pruner: AT2Pruner, question: Question) -> None:
    draft = tiny_pruner.draft(question.text, question.passages)
    sources = len(question.passages)
    assert bytes_held(draft) <= 4 * LAYERS * HEADS * (NEW + 1) * (sources + 1)


def test_many_requests_leave_nothing_behind(tiny_pruner: AT2Pruner, sample_questions: list[Question]) -> None:
    """Threads share the pruner; afterwards no tensor is left that was not there before."""
    questions = [sample_questions[i % 3] for i in range(60)]

    def ask(question: Question) -> Any:
        return tiny_pruner.answer(question.text, question.passages[:3], 1)

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    expected = [ask(question).scores for question in questions[:3]]
    before = alive()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ask, questions))
    for index, result in enumerate(results):
        assert result.scores == pytest.approx(expected[index % 3], abs=1e-6)
    del results, result
    assert alive() <= before


@pytest.mark.parametrize(
    ("code", "seconds"),
    [("import at2_prune", 1.0), ("from at2_prune.cli import main; main(['--help'])", 3.0)],  # ten times the target
)
def test_no_work_at_import(code: str, seconds: float) -> None:
    check = (
        f"import sys, time; started = time.perf_counter()\ntry:\n    {code}\nexcept SystemExit: pass\n"
        "print(time.perf_counter() - started, [m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    best = float("inf")
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
        taken, loaded = run.stdout.splitlines()[-1].split(" ", 1)
        assert loaded == "[]"
        best = min(best, float(taken))
    assert best < seconds


@pytest.mark.slow
def test_a_compiled_model_is_read_as_it_was(tiny_pruner: AT2Pruner, question: Question, tiny_model: Any) -> None:
    expected = tiny_pruner.answer(question.text, question.passages[:3], 2)
    compiled = copy.deepcopy(tiny_model)
    compiled.compile(backend="eager")
    lm = LanguageModel(compiled, tiny_pruner.language_model.tokenizer, name=tiny_pruner.language_model.name)
    result = AT2Pruner(lm, tiny_pruner.scorer, max_new_tokens=8).answer(question.text, question.passages[:3], 2)
    assert (result.draft, result.answer, result.kept) == (expected.draft, expected.answer, expected.kept)
    assert result.scores == pytest.approx(expected.scores, abs=1e-6)


@pytest.mark.slow
def test_a_compiled_model_stops_early_and_is_ablated_as_it_was(
    tiny_lm: LanguageModel, question: Question, tiny_model: Any
) -> None:
    compiled = copy.deepcopy(tiny_model)
    compiled.compile(backend="eager")
    both = [tiny_lm, LanguageModel(compiled, tiny_lm.tokenizer, name=tiny_lm.name)]
    made = ScoutCoefficients(*torch.ones(2, 6, 1, 4), torch.ones(6, 1, 4), (0,), (0,), "tiny", "llama", LAYERS)
    masks = random_masks(4, 6, torch.Generator().manual_seed(0))
    results, outcomes = [], []
    for lm in both:
        pruner = AT2Pruner(lm, ScoutScorer(made), max_new_tokens=8)
        for _ in range(2):  # the second time what was compiled runs
            prompt = lm.encode(question.text, question.passages[:4])
            results.append(pruner.answer(question.text, question.passages[:4], 2))
            outcomes.append(ablation_outcomes(lm, prompt, [5, 6, 7], masks))
    for result, outcome in zip(results[1:], outcomes[1:], strict=True):
        assert (result.answer, result.kept) == (results[0].answer, results[0].kept)
        assert result.scores == pytest.approx(results[0].scores, abs=1e-6)
        assert torch.allclose(outcome, outcomes[0], atol=1e-4)
