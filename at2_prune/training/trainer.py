"""A training run, from questions to saved head coefficients."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
import transformers

from ..attention.rows import DRAFT_ROWS
from ..bootstrap import Estimate, bootstrap_mean
from ..coefficients.head_coefficients import HeadCoefficients
from ..errors import DataError
from ..files import user_path
from ..models.compatibility import attention_shape
from ..models.fingerprint import fingerprint
from ..models.language_model import LanguageModel
from .collect import collect_examples
from .examples import Example, ExampleStore, check_store
from .fit import fidelity, fit
from .settings import TrainingData, TrainingSettings, example_settings

__all__ = ["TrainingReport", "train"]

PROCEDURES = {
    "draft": "AT2: within-example correlation with ablation outcomes",
    "answer": "within-example correlation with ablation outcomes of the known answer",
}
"""The description of the fit, by the value of `learn_from`. This text is recorded with the coefficients."""

Measures = dict[str, dict[str, Estimate]]
"""Estimates. The first key names the measure. The second key names the scores that were measured: `learned` or
`average_attention`."""


@dataclass(frozen=True)
class TrainingReport:
    """The result of a training run."""

    coefficients: HeadCoefficients
    fitted: int
    """The number of questions that the coefficients were fitted to."""
    held_out: int
    """The number of questions that the coefficients were measured on."""
    skipped: dict[str, int]
    """The number of questions without a complete example, by reason; see `collect_examples`."""
    curve: list[tuple[int, float]]
    """The training curve: pairs of a step and the training correlation at this step."""
    held_out_measures: Measures
    """The measures `lds` (linear datamodeling score) and `correlation` on the held-out questions. Each measure has an
    estimate for `learned` and an estimate for `average_attention`."""


def train(
    language_model: LanguageModel,
    data: TrainingData,
    out: str | os.PathLike[str],
    settings: TrainingSettings = TrainingSettings(),  # noqa: B008
    progress: Callable[[], None] = lambda: None,
    fit_progress: Callable[[int, float], None] = lambda step, correlation: None,
) -> TrainingReport:
    """Train head coefficients for a model, and save the coefficients.

    The run collects an example for each question, and skips questions that give no complete example. It fits
    coefficients to the examples that are not held out, and measures the coefficients on the held-out examples. The
    coefficients are saved to `out`. Each example is written as soon as it is collected. A run that was interrupted
    therefore continues where it stopped. With `data.examples`, coefficients for other row groups can be fitted to the
    ablations of an earlier run.

    Args:
        language_model: any model whose attention can be read.
        data: the questions.
        out: the folder for the coefficients. The examples are stored here too, unless `data.examples` names another
            folder.
        settings: the settings with which the coefficients are learned.
        progress: a function that is called after every question.
        fit_progress: a function that is called during the fit, with a step and the training correlation at this step.

    Raises:
        InputError: two settings contradict each other, or the folder holds examples with other settings.
        DataError: there is no example to fit.
        CacheError: a file cannot be written.
        MissingExtraError: a package that the run needs is not installed; see `TrainingSettings.check_packages`.
    """
    config = language_model.model.config
    depth, _ = attention_shape(config)
    settings.check()
    settings.check_packages()
    if data.examples is not None:
        check_store(data.examples)
    described = example_settings(language_model, data, settings.collect)
    store = ExampleStore(out if data.examples is None else data.examples, described)
    skipped = collect_examples(language_model, data.questions, store, settings.collect, progress, settings.row_groups)
    fitted, held_out = _split(store, data, settings)
    if not fitted:
        reasons = "".join(f"; {count} are left out: {reason}" for reason, count in skipped.items())
        held = f"; {len(held_out)} are held out (holdout={settings.holdout})" if held_out else ""
        raise DataError(f"{data.name}: none of {len(data.questions)} questions gave an example to fit{held}{reasons}")
    weight, curve = fit(fitted, settings.row_groups, settings.fit, fit_progress)
    measures = _measure(held_out, settings, weight)
    training = {
        "method": PROCEDURES[settings.collect.learn_from],
        "learn_from": settings.collect.learn_from,
        "weights": fingerprint(language_model.model),
        **described,
        **data.given_selection,
        "holdout": settings.holdout,
        "questions_fitted": len(fitted),
        "questions_held_out": len(held_out),
        "fit": asdict(settings.fit),
        "curve": curve,
        **{measure: {name: asdict(value) for name, value in by.items()} for measure, by in measures.items()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    coefficients = HeadCoefficients(
        weight, settings.row_groups, fitted[0].layers, language_model.name, config.model_type, training, depth
    )
    (user_path(out) / "README.md").unlink(missing_ok=True)  # save_pretrained would keep the card of an earlier run
    coefficients.save_pretrained(user_path(out))
    return TrainingReport(coefficients, len(fitted), len(held_out), skipped, curve, measures)


def _split(store: ExampleStore, data: TrainingData, settings: TrainingSettings) -> tuple[list[Example], list[Example]]:
    """Return the examples to fit, and the held-out examples. An example that lacks a row group is in neither list."""
    names = [group.name for group in settings.row_groups]
    fitted: list[Example] = []
    held_out: list[Example] = []
    for example in store.load([question.id for question in data.questions]):
        if all(name in example.mass for name in names):
            (held_out if settings.holds_out(example.question_id) else fitted).append(example)
    return fitted, held_out


def _measure(examples: Sequence[Example], settings: TrainingSettings, weight: torch.Tensor) -> Measures:
    """Measure the learned weight and average attention on the held-out examples.

    If there are no examples, the result is empty.
    """
    measures: Measures = {}
    if not examples:
        return measures
    average = torch.full((1, *weight.shape[1:]), 1 / weight[0].numel())
    candidates = {"learned": (settings.row_groups, weight), "average_attention": ((DRAFT_ROWS,), average)}
    for name, (groups, candidate) in candidates.items():
        for measure, values in vars(fidelity(examples, groups, candidate)).items():
            measures.setdefault(measure, {})[name] = bootstrap_mean(values.tolist())
    return measures
