"""Measure the time to learn head coefficients for a model, and the cost of reading a question for it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from measuring import Measurement, median, paired
from workload import Case, case, described, device_of, untouched

from at2_prune import LanguageModel
from at2_prune.datasets import Question
from at2_prune.models.readouts import read_prompts
from at2_prune.training import CollectSettings, TrainingData, TrainingSettings, train
from at2_prune.training.settings import EVIDENCE_ROWS

__all__ = ["learning", "reading_evidence"]


def learning(lm: LanguageModel, passages: int, settings: CollectSettings, questions: int) -> Iterator[Measurement]:
    """Measure the minutes that a hundred questions would take: a hundred times a question's median, plus the fit.

    Args:
        lm: the model to learn for.
        passages: the number of passages of each question.
        settings: the settings of the training.
        questions: the number of questions that are run.
    """
    cases = [case(lm, passages, index=i) for i in range(questions)]
    asked = [Question(str(i), some.question, tuple(some.passages), "nobody", (0, 1)) for i, some in enumerate(cases)]
    times = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        train(
            lm,
            TrainingData(asked, "sample"),
            folder,
            TrainingSettings(settings, holdout=0),
            progress=lambda: times.append(time.perf_counter()),
        )
    fit = time.perf_counter() - times[-1]
    each = [(100 * (after - before) + fit) / 60 for before, after in pairwise(times)]
    inputs = {
        "model": lm.name,
        "device": device_of(lm),
        "passages": passages,
        "tokens": round(sum(len(some.prompt) for some in cases) / len(cases)),
        "ablations": 0 if settings.learn_from == "evidence" else settings.ablations,
        "times": questions,
    }
    name = f"learning from {settings.learn_from}, minutes for 100 questions"
    yield Measurement(name, inputs, median(each), min(each), max(each), 30)


def reading_evidence(lm: LanguageModel, some: Case, pairs: int, limit: float | None) -> Iterator[Measurement]:
    """Time reading a question for learning from evidence, divided by a forward pass of as many layers.

    The layers are the first third, as `at2-prune train --learn-from evidence` reads by default. The reading has the
    rows of the question and of all passages.
    """
    layers = range(max(1, lm.model.config.get_text_config().num_hidden_layers // 3))
    ids = torch.tensor([some.prompt.ids], device=lm.device)
    decoder: Any = lm.model.get_decoder()

    @contextmanager
    def shallow() -> Iterator[None]:
        whole, config = decoder.layers, decoder.config
        depth = config.num_hidden_layers
        with untouched(lm):
            decoder.layers, config.num_hidden_layers = whole[: len(layers)], len(layers)
            try:
                yield
            finally:
                decoder.layers, config.num_hidden_layers = whole, depth

    inputs = described(lm, some, layers=len(layers), dtype=str(lm.model.dtype).removeprefix("torch."))
    yield paired(
        "reading evidence / forward pass of as many layers",
        inputs,
        lambda: read_prompts(lm, [some.prompt], EVIDENCE_ROWS, layers),
        lambda: decoder(input_ids=ids, use_cache=False),
        pairs,
        limit,
        shallow,
    )
