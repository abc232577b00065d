"""Training scout: coefficients of the passage index, learned from the supporting passages that the data names.

The first choice must find a supporting passage by its features. For every later choice, one supporting passage is
known, and the others must be found by their own features and their links to the known one. Both are multinomial
logistic regressions; see `at2_prune.training.choices`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ..bootstrap import Estimate, bootstrap_mean
from ..coefficients.scout_coefficients import ScoutCoefficients
from ..datasets import Question
from ..errors import DataError, InputError
from ..models.compatibility import attention_shape
from ..models.language_model import LanguageModel
from ..passage_index.features import LINKS, QUESTION, best_units, links_from, question_features, question_sums
from ..passage_index.index import PassageIndex
from ..passage_index.records import Precision
from ..passage_index.sources import source_units
from ..passage_index.stores import MemoryStore
from ..pruning.selection import top_k
from .choices import Choice, fit_choices
from .examples import Example, ExampleStore
from .settings import TrainingData, TrainingSettings

__all__ = ["ScoutReport", "ScoutSettings", "check_ids", "collect_scout", "fit_scout", "train_scout"]

PROCEDURE = "scout: supporting passages by two multinomial logistic regressions on features of the passage index"
NO_ABLATIONS = torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, 1, dtype=torch.float64)


@dataclass(frozen=True)
class ScoutSettings:
    """The settings with which scout's coefficients are learned."""

    layers: tuple[int, ...] = ()
    """The layers whose keys are kept, as indices. By default these are the middle and the last layer of the model's
    first third."""
    link_layers: tuple[int, ...] = ()
    """The layers, among `layers`, whose attention gives the links between passages; by default the last one."""
    penalty: float = 0.03
    """The L2 penalty on coefficients of features with unit variance, in both fits."""
    balance: float = 0.5
    """The weight of a data set in the fits is its number of examples to this power: 0 gives equal weights."""
    steps: int = 200
    """The maximum number of steps of L-BFGS."""
    precision: Precision = "int8"
    """The precision in which keys are kept."""
    holdout: float = 0.15
    """The share of the questions that is held out to measure the coefficients on."""

    def resolved(self, depth: int | None) -> ScoutSettings:
        """Return the settings with every default filled in for a model with `depth` layers.

        Raises:
            InputError: a layer does not exist, or a link layer is not among the layers.
        """
        third = max(1, (depth or 1) // 3)
        layers = tuple(sorted(set(self.layers or (third // 2, third - 1))))
        linked = tuple(sorted(set(self.link_layers or layers[-1:])))
        if not all(0 <= layer < (depth or layer + 1) for layer in layers) or not set(linked) <= set(layers):
            below = "" if depth is None else f" and below {depth}"
            raise InputError(
                f"layers must be at least 0{below}, and every link layer must be one of them; got layers "
                f"{list(layers)} and link layers {list(linked)}"
            )
        if not 0 <= self.holdout < 1:
            raise InputError(f"holdout must be at least 0 and less than 1, got {self.holdout}")
        return replace(self, layers=layers, link_layers=linked)


@dataclass(frozen=True)
class ScoutReport:
    """The result of training scout."""

    coefficients: ScoutCoefficients
    fitted: int
    """The number of questions that coefficients were fitted to."""
    held_out: int
    skipped: dict[str, int]
    """The number of questions without an example, by reason."""
    recall: dict[str, dict[str, Estimate]]
    """By data set: the share of a held-out question's supporting passages among the best 2 and 3."""


def train_scout(
    language_model: LanguageModel,
    data: Sequence[TrainingData],
    out: str | os.PathLike[str],
    settings: ScoutSettings = ScoutSettings(),
    progress: Callable[[], None] = lambda: None,
) -> ScoutReport:
    """Train scout's coefficients for a model and save them.

    `ScoutSettings.balance` gives the weight of each data set. An example is written as soon as it
    is collected, so an interrupted run continues where it stopped.

    Args:
        language_model: any model whose attention can be read.
        data: one data set or more.
        out: the folder for coefficients and examples.
        settings: the settings with which the coefficients are learned.
        progress: called after every question.

    Raises:
        InputError: a setting cannot be used, or the folder holds examples with other settings.
        DataError: no question gave an example, or two data sets have a question with the same id.
        CacheError: a file cannot be written.
    """
    check_ids(data)
    config = language_model.model.config
    depth, _ = attention_shape(config)
    settings = settings.resolved(depth)
    described: dict[str, Any] = {
        "method": "scout",
        "model": language_model.name,
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "layers": list(settings.layers),
        "link_layers": list(settings.link_layers),
        "precision": settings.precision,
        "features": [*QUESTION, *LINKS],
        "data": [one.name for one in data],
    }
    store = ExampleStore(out, described)
    index = PassageIndex(language_model, settings.layers, settings.link_layers, settings.precision, MemoryStore(0))
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
    recall = {one.name: _recall(found, some) for one, some in zip(data, held_out, strict=True) if some}
    training = {
        "procedure": PROCEDURE,
        "learn_from": "evidence",
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
    )
    found.save_pretrained(Path(out))
    return ScoutReport(found, sum(map(len, fitted)), sum(map(len, held_out)), skipped, recall)


def check_ids(data: Sequence[TrainingData]) -> None:
    """Check that no two data sets share an id, because examples are stored by the ids of their questions.

    Raises:
        DataError: two of them do.
    """
    known: dict[str, str] = {}
    for one in data:
        for question in one.questions:
            if question.id in known:
                raise DataError(
                    f"{known[question.id]} and {one.name} both have a question with the id {question.id!r}: give each "
                    "question an id of its own"
                )
        known |= {question.id: one.name for question in one.questions}


def collect_scout(
    index: PassageIndex,
    questions: Sequence[Question],
    store: ExampleStore,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Collect the features of every question that `store` does not have yet. Return how many gave none, by reason."""
    skipped: dict[str, int] = {}
    for question in questions:
        if not store.has(question.id):
            reason = ""
            if len(question.passages) < 2:
                reason = "fewer than two passages"
            elif not question.gold:
                reason = "no supporting passages are named"
            else:
                store.add(_example(index, question))
            if reason:
                skipped[reason] = skipped.get(reason, 0) + 1
        progress()
    return skipped


def fit_scout(data: Sequence[Sequence[Example]], settings: ScoutSettings) -> ScoutCoefficients:
    """Fit scout's coefficients to the examples of one data set or more.

    Raises:
        DataError: no example has both supporting passages and others.
    """
    first: list[Choice] = []
    usable: list[tuple[Example, float]] = []
    for examples in data:
        some = [example for example in examples if bool(example.gold.any()) and not bool(example.gold.all())]
        usable += [(example, len(some) ** (settings.balance - 1)) for example in some]
    if not usable:
        raise DataError("no example to fit: none has both supporting passages and others")
    for example, weight in usable:
        first.append(Choice(_flat(example.mass["question"]), example.gold, torch.zeros(len(example.gold)), weight))
    shape = usable[0][0].mass["question"].shape[:3]
    theta = fit_choices(first, settings.penalty, settings.steps)
    later = [choice for example, weight in usable for choice in _later(example, theta, weight)]
    links = usable[0][0].mass["links"].shape[1:4]
    if later:
        both = fit_choices(later, settings.penalty, settings.steps)
    else:  # every question has one supporting passage
        both = torch.cat([theta, torch.zeros(links.numel())])
    own, linked = both[: shape.numel()], both[shape.numel() :]
    return ScoutCoefficients(
        theta.reshape(shape), own.reshape(shape), linked.reshape(links), settings.layers, settings.link_layers
    )


def _later(example: Example, theta: torch.Tensor, weight: float) -> list[Choice]:
    """Return the choices after the first. For each supporting passage there is one, in which this passage is the known
    one.

    The first fit gives each supporting passage a probability of being the known one. The weight of a choice is the
    weight of the example times this probability.
    """
    features = _flat(example.mass["question"])
    known = example.gold.nonzero()[:, 0]
    if len(known) < 2:
        return []
    shares = (features[known].double() @ theta.double()).softmax(0).tolist()
    found = []
    for source, share in zip(known.tolist(), shares, strict=True):
        others = torch.arange(len(features)) != source
        both = torch.cat([features, _flat(example.mass["links"][source])], 1)
        found.append(Choice(both[others], example.gold[others], torch.zeros(int(others.sum())), weight * share))
    return found


def _example(index: PassageIndex, question: Question) -> Example:
    texts = [passage.text for passage in question.passages]
    units, sources = source_units(index, question.passages, list(range(len(texts))), texts)
    rows = index.question(question.text)
    share = question_features(question_sums(rows, units))[QUESTION.index("share")].mean((0, 1))
    best = best_units(share, sources)  # no coefficients are known yet
    some = [units[i] for i in best]
    features = question_features(question_sums(rows, some))
    links = links_from(some, some, index.softcaps(rows))
    links = torch.cat(
        [links, links.transpose(0, -1)], 1
    )  # the opposite direction: the link from b to a is a feature of the pair (a, b) too
    gold = torch.tensor([sources[i] in question.gold for i in best])
    mass = {"question": features, "links": links}
    return Example(question.id, "", mass, list(index.encoder.layers), *NO_ABLATIONS, gold)


def _recall(coefficients: ScoutCoefficients, examples: Sequence[Example]) -> dict[str, Estimate]:
    """Return the recall of supporting passages at 2 and 3."""
    found: dict[str, list[float]] = {"recall@2": [], "recall@3": []}
    for example in examples:
        links = example.mass["links"]
        scores = coefficients.score(example.mass["question"], lambda chosen, links=links: links[chosen]).tolist()  # type: ignore[misc]
        for name, values in found.items():
            best = top_k(scores, int(name[-1]))
            values.append(float(example.gold[best].sum() / example.gold.sum()))
    return {name: bootstrap_mean(values) for name, values in found.items()}


def _flat(features: torch.Tensor) -> torch.Tensor:
    """`(groups, layers, heads, sources)` to `(sources, features)`."""
    return features.flatten(0, 2).T
