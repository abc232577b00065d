"""Measure the time to learn head coefficients for a model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise

from measuring import Measurement, median
from workload import case, device_of

from at2_prune import LanguageModel
from at2_prune.datasets import Question
from at2_prune.training import CollectSettings, TrainingData, TrainingSettings, train

__all__ = ["learning"]


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
        "ablations": settings.ablations,
        "times": questions,
    }
    name = f"learning from {settings.learn_from}, minutes for 100 questions"
    yield Measurement(name, inputs, median(each), min(each), max(each), 30)
