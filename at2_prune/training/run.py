"""One training run from questions to saved coefficients."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from ..coefficients import DRAFT_ROWS, HeadCoefficients, RowGroup
from ..errors import DataError, InputError
from ..intervals import Estimate, bootstrap_mean
from ..model import LanguageModel
from ..questions import Question
from .collect import CollectSettings, collect_examples
from .fit import FitSettings, fidelity, fit
from .store import ExampleStore

__all__ = ["TrainingReport", "train"]


@dataclass(frozen=True)
class TrainingReport:
    """What a run made."""

    coefficients: HeadCoefficients
    fitted: int
    """Questions fitted to."""
    held_out: int
    """Questions the fidelity was measured on."""
    skipped: dict[str, int]
    """Questions that gave no example, by reason."""
    curve: list[tuple[int, float]]
    """Training correlation by step."""
    lds: dict[str, Estimate]
    """Linear datamodeling score on the held-out questions, `learned` and `average_attention`."""
    correlation: dict[str, Estimate]


def train(
    language_model: LanguageModel,
    questions: Sequence[Question],
    out: str | os.PathLike[str],
    *,
    data_name: str,
    collect: CollectSettings = CollectSettings(),  # noqa: B008
    fit_settings: FitSettings = FitSettings(),  # noqa: B008
    row_groups: Sequence[RowGroup] = (DRAFT_ROWS,),
    holdout: float = 0.15,
    examples: str | os.PathLike[str] | None = None,
    progress: Callable[[], None] = lambda: None,
    fit_progress: Callable[[int, float], None] = lambda step, correlation: None,
) -> TrainingReport:
    """Train head coefficients for a model and save them.

    Collecting writes every question to `out/examples` as it is done, so a run that was interrupted goes on where it
    stopped; then coefficients are fitted to most of the questions, measured on the rest and saved to `out`. Given
    another run's folder as `examples`, it fits other row groups without running its ablations again.

    Args:
        language_model: any readable model.
        questions: their answers are not used, their supporting passages only recorded.
        out: a folder; one that was begun with other settings is refused.
        data_name: recorded.
        collect: ablations a question and the like.
        fit_settings: the optimiser's.
        row_groups: rows to learn coefficients for; AT2's are the draft's.
        holdout: part of the questions kept for measuring fidelity, chosen by a hash of their ids.
        examples: the folder whose examples are used, and added to; by default `out`.
        progress: called once a question.
        fit_progress: called with step and correlation.

    Raises:
        InputError: bad settings, or another run's folder.
        DataError: no question gave an example.
    """
    if collect.ablations < 2:
        raise InputError(f"ablations must be at least 2 (a correlation needs two points), got {collect.ablations}")
    if not 0 <= holdout < 1:
        raise InputError(f"holdout must be at least 0 and less than 1, got {holdout}")
    ids = [question.id for question in questions]
    if len(set(ids)) != len(ids):
        raise DataError(f"{data_name}: question ids repeat ({next(i for i in ids if ids.count(i) > 1)!r})")
    settings = {
        "model": language_model.name,
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "prompt": language_model.template.name,
        "data": data_name,
        **asdict(collect),
    }
    store = ExampleStore(out if examples is None else examples, settings)
    skipped = collect_examples(language_model, questions, store, collect, progress, row_groups)
    held_ids = {i for i in ids if int(hashlib.sha256(i.encode()).hexdigest()[:8], 16) / 2**32 < holdout}
    complete = [example for example in store.load(ids) if all(group.name in example.mass for group in row_groups)]
    fitted = [example for example in complete if example.question_id not in held_ids]
    held = [example for example in complete if example.question_id in held_ids]
    weight, curve = fit(fitted, row_groups, fit_settings, fit_progress)
    lds, correlation = {}, {}
    average = torch.full((1, *weight.shape[1:]), 1 / weight[0].numel())
    candidates = {"learned": (row_groups, weight), "average_attention": ((DRAFT_ROWS,), average)}
    for name, (groups, candidate) in candidates.items():
        if held:
            measured = fidelity(held, groups, candidate)
            lds[name] = bootstrap_mean(measured.lds.tolist())
            correlation[name] = bootstrap_mean(measured.correlation.tolist())
    recorded: dict[str, Any] = {
        "method": "AT2: within-example correlation with ablation outcomes",
        **settings,
        "questions_fitted": len(fitted),
        "questions_held_out": len(held),
        "fit": asdict(fit_settings),
        "curve": curve,
        "lds": {name: asdict(value) for name, value in lds.items()},
        "correlation": {name: asdict(value) for name, value in correlation.items()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    coefficients = HeadCoefficients(
        weight, row_groups, fitted[0].layers, language_model.name, language_model.model.config.model_type, recorded
    )
    (Path(out) / "README.md").unlink(missing_ok=True)  # an earlier run's card, which the mixin would keep
    coefficients.save_pretrained(Path(out))
    return TrainingReport(coefficients, len(fitted), len(held), skipped, curve, lds, correlation)
