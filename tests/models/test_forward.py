"""A beginning that prompts share is run once, and nothing changes but the work, on every family that can."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from at2_prune.attention.rows import Reading, RowGroup, Rows
from at2_prune.models import forward
from at2_prune.models.drafts import read_drafts, write_drafts
from at2_prune.models.forward import WORTH_SHARING, run_prefix
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt, TextTemplate
from at2_prune.models.shared_prefix import write_answers

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import FAMILIES, PROBED, build

HEAD = WORTH_SHARING + 6
SOURCES = [(HEAD, HEAD + 10), (HEAD + 10, HEAD + 24)]
NEW = 5


def made_prompt(ids: list[int], sources: list[tuple[int, int]]) -> EncodedPrompt:
    count = len(sources)
    return EncodedPrompt(ids, sources, list(range(count)), [""] * count, sources, (len(ids) - 5, len(ids) - 2))


@pytest.mark.parametrize("name", [*FAMILIES, *PROBED])
def test_what_follows_a_beginning_is_what_it_was(name: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    lm = LanguageModel(build(name), tiny_tokenizer)
    ids = torch.randint(3, 120, (HEAD + 32,), generator=torch.Generator().manual_seed(0)).tolist()
    prompt = made_prompt(ids, SOURCES)
    prefix = run_prefix(lm, prompt)
    if not lm.compatibility.shares_prefixes:
        assert prefix is None
        return
    assert prefix is not None
    assert prefix.ids == ids[:HEAD]
    rows = [Rows("question", *prompt.question), Rows("draft", len(ids) - 1, None, "none"), Rows("s", *SOURCES[1])]
    for _ in range(2):  # it is not used up
        plain, read = lm.generate([prompt], NEW, [Reading(SOURCES, rows)])
        shared, read_on = lm.generate([prompt], NEW, [Reading(SOURCES, rows)], prefix=prefix)
        assert shared[0].ids == plain[0].ids
        assert shared[0].log_probability == pytest.approx(plain[0].log_probability, abs=1e-4)
        assert read is not None
        assert read_on is not None
        for group in rows:
            assert torch.allclose(read_on.mass(group.name), read.mass(group.name), atol=1e-5)
    short = made_prompt([*ids[:HEAD], *ids[SOURCES[1][0] :]], [(HEAD, HEAD + 14)])
    written = write_answers(lm, [short, prompt], (), NEW, prefix)
    alone = [lm.generate([some], NEW)[0][0] for some in (short, prompt)]
    assert [some.ids for some in written] == [some.ids for some in alone]


@pytest.mark.parametrize("name", [*FAMILIES, *PROBED])
def test_a_padded_batch_is_what_each_is_alone(name: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """On families that pad exactly as one batch, on the others one by one."""
    lm = LanguageModel(build(name), tiny_tokenizer, TextTemplate(stop=()))
    drawn = torch.Generator().manual_seed(0)
    prompts = [
        made_prompt(torch.randint(3, 120, (length,), generator=drawn).tolist(), [(2, 9), (9, length - 8)])
        for length in (24, 44, 37, 44)
    ]
    groups = [RowGroup("question"), RowGroup("draft")]
    targets = [[5, 6, 7], [8, 9], [11, 12, 13, 14], [9]]
    passes: list[int] = []
    together = lm.compatibility.pads_exactly  # asked for first: a probe's own passes are not counted
    hook = lm.model.get_decoder().register_forward_pre_hook(lambda *_: passes.append(1))
    read = read_drafts(lm, prompts, targets, groups)
    assert len(passes) == (1 if together else len(prompts))
    hook.remove()
    written = write_drafts(lm, prompts, groups, NEW)
    for prompt, target, given, own in zip(prompts, targets, read, written, strict=True):
        alone = write_drafts(lm, [prompt], groups, NEW)[0]
        assert (own.ids, own.text) == (alone.ids, alone.text)
        assert own.log_probability == pytest.approx(alone.log_probability, abs=1e-4)
        for one, other in ((own, alone), (given, read_drafts(lm, [prompt], [target], groups)[0])):
            assert set(one.readout.mass) == set(other.readout.mass)
            for group, mass in other.readout.mass.items():
                assert torch.allclose(one.readout.mass[group], mass, atol=1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, *PROBED])
def test_answers_written_together_are_what_each_is_alone(
    name: str, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some prompts are longer than the families' windows, some shorter, and they begin alike or do not."""
    lm = LanguageModel(build(name), tiny_tokenizer, TextTemplate(stop=()))
    monkeypatch.setattr("at2_prune.models.shared_prefix.WORTH_BATCHING", 2)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 120, (50,), generator=drawn).tolist()
    other = torch.randint(3, 120, (50,), generator=drawn).tolist()
    whole = made_prompt(ids, [(6, 16), (16, 30), (30, 42)])
    prompts = [
        whole,
        made_prompt([*ids[:16], *ids[42:]], [(6, 16)]),
        made_prompt([*ids[:6], *ids[16:30], *ids[42:]], [(6, 20)]),
        made_prompt([*ids[:30], *ids[42:]], [(6, 16), (16, 30)]),
        made_prompt(other, whole.sources),
        whole,
    ]
    batches: list[int] = []
    together = lm.compatibility.has_backbone and lm.compatibility.joins_caches
    hook = lm.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["input_ids"] if "input_ids" in kwargs else args[0])),
        with_kwargs=True,
    )
    written = write_answers(lm, prompts, (), NEW)
    hook.remove()
    assert max(batches) == (5 if together else 1)
    for prompt, together in zip(prompts, written, strict=True):
        alone = lm.generate([prompt], NEW)[0][0]
        assert together.ids == alone.ids
        assert together.log_probability == pytest.approx(alone.log_probability, abs=1e-4)


@pytest.mark.parametrize("layers", [None, (0, 1)])
@pytest.mark.parametrize("name", [*FAMILIES, *PROBED])
def test_a_long_prompt_is_read_in_pieces(
    name: str,
    layers: tuple[int, ...] | None,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = LanguageModel(build(name), tiny_tokenizer)
    ids = torch.randint(3, 120, (HEAD + 32,), generator=torch.Generator().manual_seed(0)).tolist()
    prompt = made_prompt(ids, SOURCES)
    rows = [
        Rows("question", *prompt.question),
        Rows("max", *prompt.question, "max"),
        Rows("source", *SOURCES[1]),
        Rows("draft", len(ids) - 1, len(ids) + 3),
    ]
    lm.compatibility.measure()  # its passes are not counted
    whole = lm.read([prompt], [[5, 6, 7, 8]], [Reading(SOURCES, rows)], layers)
    monkeypatch.setattr("at2_prune.models.language_model.TOKENS_AT_ONCE", 20)
    passes: list[int] = []
    lm.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: passes.append(args[0].shape[-1]))
    read = lm.read([prompt], [[5, 6, 7, 8]], [Reading(SOURCES, rows)], layers)
    assert sum(passes) == len(ids) + 3
    assert max(passes) == (20 if lm.compatibility.joins_caches else len(ids) + 3)
    assert read.layers == whole.layers
    for group in rows:
        assert torch.allclose(read.mass(group.name), whole.mass(group.name), atol=1e-5)


def test_what_does_not_begin_so_is_run_whole(tiny_lm: LanguageModel) -> None:
    ids = torch.randint(3, 120, (HEAD + 32,), generator=torch.Generator().manual_seed(0)).tolist()
    prompt = made_prompt(ids, SOURCES)
    prefix = run_prefix(tiny_lm, prompt)
    assert prefix is not None
    other = made_prompt([5, *ids[1:]], SOURCES)
    assert prefix.fork_for(other) is None
    assert prefix.fork_for(made_prompt(ids[:HEAD], [])) is None  # nothing is left to run
    assert tiny_lm.generate([other], NEW, prefix=prefix)[0] == tiny_lm.generate([other], NEW)[0]
    both = tiny_lm.generate([prompt, other], NEW, prefix=prefix)[0]  # a batch does not share
    assert [g.ids for g in both] == [tiny_lm.generate([some], NEW)[0][0].ids for some in (prompt, other)]
    alone = [tiny_lm.generate([some], NEW)[0][0].ids for some in (prompt, other)]
    assert [g.ids for g in write_answers(tiny_lm, [prompt, other], (), NEW, prefix)] == alone


def test_short_beginnings_are_not_shared(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(3, 120, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    assert run_prefix(tiny_lm, made_prompt(ids, [(20, 40)])) is None
    assert run_prefix(tiny_lm, made_prompt(ids, [])) is None
    monkeypatch.setattr(forward, "WORTH_SHARING", 20)
    assert run_prefix(tiny_lm, made_prompt(ids, [(20, 40)])) is not None
