"""Train scout: learn its coefficients from the supporting passages that the data names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import transformers

from ..bootstrap import Estimate, bootstrap_mean
from ..coefficients.scout_coefficients import ScoutCoefficients
from ..encoders.embedder import Embedder
from ..errors import DataError
from ..files import user_path
from ..models.compatibility import attention_shape
from ..models.fingerprint import fingerprint
from ..models.language_model import LanguageModel
from ..passage_index.features import LINKS, QUESTION
from ..passage_index.index import PassageIndex
from ..passage_index.stores import MemoryStore
from .choices import recall_at
from .examples import COSINE, Example, ExampleStore
from .probabilities import fit_calibration
from .scout_examples import collect_scout
from .scout_fit import ScoutSettings, fit_scout
from .settings import TrainingData, TrainingSettings

__all__ = ["ScoutReport", "check_ids", "train_scout"]

MEMORY = 2**28
"""The maximum size in bytes of the passage index that training keeps in memory. The index makes it unnecessary to read
a passage again for another question."""
PROCEDURE = "scout: supporting passages by two multinomial logistic regressions on features of the passage index"


@dataclass(frozen=True)
class ScoutReport:
    """The result of training scout."""

    coefficients: ScoutCoefficients
    fitted: int
    """The number of questions that the coefficients were fitted to."""
    held_out: int
    """The number of questions that the coefficients were measured on."""
    skipped: dict[str, int]
    """The number of questions without an example, by reason."""
    recall: dict[str, dict[str, Estimate]]
    """For each data set, the mean recall@2 and recall@3 of supporting passages on the held-out questions."""


def train_scout(
    language_model: LanguageModel,
    data: Sequence[TrainingData],
    out: str | os.PathLike[str],
    settings: ScoutSettings | None = None,
    progress: Callable[[], None] = lambda: None,
) -> ScoutReport:
    """Train scout's coefficients for a model, and save the coefficients.

    `ScoutSettings.balance` decides the weight of each data set. Each example is written as soon as it is collected. A
    run that was interrupted therefore continues where it stopped.

    Args:
        language_model: any model whose attention can be read.
        data: one or more data sets.
        out: the folder for coefficients and examples.
        settings: the settings with which the coefficients are learned; by default `ScoutSettings()`.
        progress: a function that is called after every question.

    Raises:
        InputError: a setting cannot be used, the embedder cannot be loaded, or the folder holds examples with other
            settings.
        DataError: there is no example to fit, or two data sets have a question with the same id.
        CacheError: a file cannot be written.
        MissingExtraError: the embedder needs a package that is not installed.
    """
    check_ids(data)
    config = language_model.model.config
    depth, _ = attention_shape(config)
    settings = (settings or ScoutSettings()).resolved(depth)
    if settings.embedder is not None and user_path(settings.embedder).exists():
        settings = replace(settings, embedder=str(user_path(settings.embedder).resolve()))
    described: dict[str, Any] = {
        "method": "scout",
        "model": language_model.name,
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "layers": list(settings.layers),
        "link_layers": list(settings.link_layers),
        "precision": settings.precision,
        "features": [*QUESTION, *LINKS, "absent"],
        "data": [one.name for one in data],
    }
    embedder = None if settings.embedder is None else Embedder(settings.embedder)
    layers, linked, memory = settings.layers, settings.link_layers, MemoryStore(MEMORY)
    index = PassageIndex(language_model, layers, linked, settings.precision, memory, embedder)  # loads the embedder
    if embedder is not None:
        described |= {"method": "scout_dense", "embedder": settings.embedder}
        described |= {"embedder_weights": embedder.fingerprint, "features": [*described["features"], COSINE]}
    store = ExampleStore(out, described)
    skipped = collect_scout(index, [question for one in data for question in one.questions], store, progress)
    held = TrainingSettings(holdout=settings.holdout)
    fitted, held_out = [], []
    for one in data:
        examples = list(store.load([question.id for question in one.questions]))
        fitted.append([example for example in examples if not held.holds_out(example.question_id)])
        held_out.append([example for example in examples if held.holds_out(example.question_id)])
    if not any(fitted) and any(held_out):
        count = sum(map(len, held_out))
        raise DataError(
            f"no example to fit: all {count} are held out (holdout={settings.holdout}); hold out less, or add data"
        )
    found = fit_scout(fitted, settings)
    if embedder is not None and found.cosine is not None:
        found = replace(found, cosine=replace(found.cosine, probe=embedder.probe()))
    recall = {one.name: _recall(found, some) for one, some in zip(data, held_out, strict=True) if some}
    training = {
        "procedure": PROCEDURE,
        "learn_from": "evidence",
        "weights": fingerprint(language_model.model),
        **described,
        "selection": [one.given_selection for one in data],
        "questions_fitted": [len(some) for some in fitted],
        "questions_held_out": [len(some) for some in held_out],
        "fit": {
            key: value for key, value in asdict(settings).items() if key in ("penalty", "balance", "steps", "holdout")
        },
        "held_out": {name: {k: asdict(value) for k, value in by.items()} for name, by in recall.items()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    found = replace(
        found,
        model_name=language_model.name,
        model_type=config.model_type,
        model_layers=depth or 0,
        training=training,
        calibration=fit_calibration(fitted, settings),
    )
    found.save_pretrained(user_path(out))
    return ScoutReport(found, sum(map(len, fitted)), sum(map(len, held_out)), skipped, recall)


def check_ids(data: Sequence[TrainingData]) -> None:
    """Check that no two data sets have a question with the same id. Examples are stored by the ids of their questions.

    Raises:
        DataError: two data sets have a question with the same id.
    """
    known: dict[str, str] = {}
    for one in data:
        for question in one.questions:
            if question.id in known:
                raise DataError(
                    f"{known[question.id]} and {one.name} both have a question with the id {question.id!r}: give each "
                    "question its own id"
                )
        known |= {question.id: one.name for question in one.questions}


def _recall(coefficients: ScoutCoefficients, examples: Sequence[Example]) -> dict[str, Estimate]:
    """Return the mean recall@2 and recall@3 of supporting passages."""
    found: dict[str, list[float]] = {"recall@2": [], "recall@3": []}
    for example in examples:
        links = example.mass["links"]
        scores = coefficients.score(
            example.mass["question"],
            lambda chosen, links=links: links[chosen],  # type: ignore[misc]
            cosines=example.cosines,
        )
        for name, values in found.items():
            values.append(recall_at(scores, example.gold, int(name[-1])))
    return {name: bootstrap_mean(values) for name, values in found.items()}
