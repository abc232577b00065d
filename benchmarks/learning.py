"""Measure the time to learn coefficients for a model: of heads from ablations, and of scout without labels."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise

import torch
from measuring import Measurement, median
from workload import case, device_of

from at2_prune import LanguageModel
from at2_prune.calibration import calibrate, shipped_data
from at2_prune.datasets import Question
from at2_prune.models.default_model import embedded_model_path, embedded_tokenizer
from at2_prune.training import CollectSettings, TrainingData, TrainingSettings, train

__all__ = ["calibrating", "learning"]


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


def calibrating(lm: LanguageModel) -> Iterator[Measurement]:
    """Measure the seconds of `at2-prune calibrate` with the questions that come with at2-prune, after loading.

    The model is a random one of the same shape, with the vocabulary of the embedded model, because a small vocabulary
    makes more tokens of a text.
    """
    tokenizer = embedded_tokenizer(embedded_model_path())
    config = copy.deepcopy(lm.model.config)
    config.vocab_size = len(tokenizer)
    published = type(lm.model)(config).to(torch.bfloat16)  # as the weights of most models are
    model = published.to(dtype=lm.model.dtype, device=lm.device).eval()
    lm = LanguageModel(model, tokenizer, name=lm.name)
    data = shipped_data()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        calibrate(lm, [data], folder)
        taken = time.perf_counter() - started
    tokens = sum(len(lm.codec.plain(p.text)[0]) for p in {p for q in data.questions for p in q.passages})
    inputs = {
        "model": lm.name,
        "device": device_of(lm),
        "questions": len(data.questions),
        "tokens": tokens,
        "times": 1,
    }
    dtype = str(model.dtype).removeprefix("torch.")
    yield Measurement(f"calibrating a {dtype} model, seconds", inputs, taken, taken, taken, 120)
