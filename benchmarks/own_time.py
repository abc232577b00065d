"""Measure the part of drafting's time that attribution's own code takes, within one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from measuring import Clock, Measurement, median_interval
from workload import Case, coefficients_of, described, endless

from at2_prune import LanguageModel
from at2_prune.attention.reader import AttentionReader
from at2_prune.models import generation
from at2_prune.models.drafts import write_drafts
from at2_prune.scorers import LearnedScorer, Task

__all__ = ["own_time"]

OWN = ((AttentionReader, "__call__"), (AttentionReader, "catch_up"), (generation, "greedy_log_probabilities"))
"""The functions of attribution that run inside `generate`."""


def own_time(lm: LanguageModel, some: Case, draft: int, times: int, limit: float | None) -> Iterator[Measurement]:
    """Time attribution's own code, divided by the rest of drafting.

    This code is the functions of `OWN`, which the model's attention and sampling call, and everything around
    `generate`: tensors of ids, texts, scores. On a GPU, work ends later than the call that starts it, so nothing is
    measured there.

    Args:
        lm: the model.
        some: the question to draft from.
        draft: the number of tokens of the draft.
        times: the number of drafts, after one that does not count.
        limit: the limit of the ratio.
    """
    if lm.device.type != "cpu":
        return
    scorer, prompt = LearnedScorer(coefficients_of(lm, "at2")[0]), some.prompt
    inside, rest, ratios = Clock(), 0.0, []
    plain = lm.model.generate

    def generate(*args: Any, **options: Any) -> Any:
        nonlocal rest
        inside.seconds = 0.0
        started = time.perf_counter()
        output = plain(*args, **options)
        rest = time.perf_counter() - started - inside.seconds
        return output

    parts = [(owner, name, inside.around(getattr(owner, name))) for owner, name in OWN]
    with endless(lm), ExitStack() as patches:
        for owner, name, timed in [*parts, (lm.model, "generate", generate)]:
            patches.enter_context(patch.object(owner, name, timed))
        for _ in range(times + 1):
            started = time.perf_counter()
            written = write_drafts(lm, [prompt], scorer.row_groups, draft, scorer.layers)[0]
            scorer.score(Task(lm, some.question, some.passages, prompt, written))
            ratios.append((time.perf_counter() - started - rest) / rest)
    ratios = ratios[1:]
    inputs = described(lm, some, draft=draft, times=times)
    yield Measurement("drafting: attribution's own code / the rest", inputs, *median_interval(ratios), limit)
