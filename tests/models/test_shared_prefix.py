"""Answers that share prefixes are those of plain greedy generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, pairwise

import pytest

from at2_prune.errors import ContextTooLongError
from at2_prune.models import shared_prefix as answers
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.shared_prefix import write_answers
from at2_prune.passages import as_passages

PASSAGES = as_passages(
    [f"Passage {name} tells of {name} and the river {name}." for name in ("one", "two", "three", "four")]
)
QUESTION = "Which river is it?"


def prompts_of(lm: LanguageModel, sizes: tuple[int, ...] = (1, 2, 3, 4)) -> list:
    kept = [some for size in sizes for some in combinations(range(len(PASSAGES)), size)]
    return [lm.encode(QUESTION, [PASSAGES[i] for i in some]) for some in kept]


def test_answers_equal_plain_generation(tiny_lm: LanguageModel) -> None:
    prompts = prompts_of(tiny_lm)
    plain = [tiny_lm.generate([prompt], 12)[0][0] for prompt in prompts]
    assert [g.ids for g in write_answers(tiny_lm, prompts, (), 12)] == [g.ids for g in plain]
    assert len({tuple(g.ids) for g in plain}) > 1  # or the test could not fail


@pytest.mark.parametrize("length", [1, 4, 12, 20])
def test_a_guess_never_changes_an_answer(tiny_lm: LanguageModel, length: int) -> None:
    prompts = prompts_of(tiny_lm, (1, 2))
    plain = [tiny_lm.generate([prompt], 12)[0][0].ids for prompt in prompts]
    right = plain[0][:length]
    half = [*right[: length // 2], 7, 7, 7]
    for guess in (right, half, [7] * length):
        assert [g.ids for g in write_answers(tiny_lm, prompts, guess, 12)] == plain


def test_a_prompt_that_begins_another_is_answered_too(tiny_lm: LanguageModel) -> None:
    long = tiny_lm.encode(QUESTION, PASSAGES)
    nested = [long, type(long)(**{**vars(long), "ids": long.ids[: long.sources[1][1]], "sources": long.sources[:1]})]
    plain = [tiny_lm.generate([prompt], 8)[0][0].ids for prompt in nested]
    assert [g.ids for g in write_answers(tiny_lm, nested, (), 8)] == plain


@contextmanager
def passes_of(lm: LanguageModel) -> Iterator[list[tuple[int, int]]]:
    """Shape of the token ids of every pass, as they come."""
    seen: list[tuple[int, int]] = []
    hook = lm.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("keys_at_once", [1, 120_000, 2**30])
def test_many_answers_are_written_together(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, keys_at_once: int
) -> None:
    """In as many batches as their keys and values take, from prompts of different lengths, until each has ended."""
    prompts = prompts_of(tiny_lm)
    plain = [tiny_lm.generate([prompt], 12)[0][0] for prompt in prompts]
    ends = {plain[0].ids[1], plain[3].ids[4]}  # so that some are shorter than others
    monkeypatch.setattr(tiny_lm, "ends", lambda ids: ids[-1] in ends)
    expected = [g.ids[: next((i for i, t in enumerate(g.ids, start=1) if t in ends), 12)] for g in plain]
    monkeypatch.setattr(answers, "KEYS_AT_ONCE", keys_at_once)
    with passes_of(tiny_lm) as passes:
        written = write_answers(tiny_lm, prompts, (), 12)
    assert [g.ids for g in written] == expected
    assert len({len(ids) for ids in expected}) > 2  # or it would not matter when each ends
    widest = max(rows for rows, _ in passes)
    assert widest in {1: [1], 120_000: range(2, 9), 2**30: [len(prompts)]}[keys_at_once]
    for one, alone in zip(written, plain, strict=True):
        if one.ids == alone.ids:
            assert one.log_probability == pytest.approx(alone.log_probability, abs=1e-4)


def test_shared_beginnings_run_once(tiny_lm: LanguageModel) -> None:
    prompts = prompts_of(tiny_lm, (2, 3))
    with passes_of(tiny_lm) as passes:
        write_answers(tiny_lm, prompts, (), 1)
    counted = sum(rows * tokens for rows, tokens in passes)
    prefix: set[tuple[int, ...]] = set()
    total = 0
    for prompt in prompts:
        cuts = [0, *[start for start, _ in prompt.sources], prompt.sources[-1][1], len(prompt)]
        for begin, end in pairwise(cuts):
            if tuple(prompt.ids[:end]) not in prefix:
                prefix.add(tuple(prompt.ids[:end]))
                total += end - begin
    assert counted == total + 1 < sum(map(len, prompts))  # and one token, for the output layer of all


def test_too_long_a_prompt_is_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(ContextTooLongError):
        write_answers(tiny_lm, prompts_of(tiny_lm, (1,)), (), 10**6)
