"""One training run from questions to saved coefficients."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ..attention.rows import DRAFT_ROWS, RowGroup
from ..bootstrap import Estimate, bootstrap_mean
from ..coefficients.head_coefficients import HeadCoefficients
from ..datasets import Question
from ..errors import DataError, InputError
from ..models.language_model import LanguageModel
from .collect import CollectSettings, collect_examples
from .evidence import EvidenceSettings, fit_evidence, gold_found
from .examples import ExampleStore
from .fit import FitSettings, fidelity, fit

__all__ = ["EVIDENCE_ROWS", "TrainingReport", "train"]

EVIDENCE_ROWS = (RowGroup("question"), RowGroup("question", "max"), RowGroup("sources"), RowGroup("sources", "max"))
"""What finds evidence without a draft."""
METHODS = {
    "draft": "AT2: within-example correlation with ablation outcomes",
    "answer": "within-example correlation with ablation outcomes of the known answer",
    "evidence": "supporting passages by multinomial logistic regression",
}
"""What fits, by what is learned from."""
_NEW = {"learn_from": "draft", "layers": None}  # settings that folders begun without them have


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
    """Training correlation by step; empty if learned from evidence."""
    held_out_measures: dict[str, dict[str, Estimate]]
    """On the held-out questions, for `learned` and `average_attention`: `lds` (linear datamodeling score) and
    `correlation` with ablations; or `gold_recall` and `both_gold` at 2 of supporting passages."""


def train(
    language_model: LanguageModel,
    questions: Sequence[Question],
    out: str | os.PathLike[str],
    *,
    data_name: str,
    selection: Mapping[str, Any] | None = None,
    collect: CollectSettings = CollectSettings(),  # noqa: B008
    fit_settings: FitSettings = FitSettings(),  # noqa: B008
    row_groups: Sequence[RowGroup] | None = None,
    evidence_settings: EvidenceSettings = EvidenceSettings(),  # noqa: B008
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
        questions: with supporting passages to learn from evidence, with answers to learn from these; neither is used
            to learn from ablations of drafts.
        out: a folder; one that was begun with other settings is refused.
        data_name: recorded.
        selection: how the questions were chosen from the data, options of `at2-prune train` by name (`split`, `ids`,
            `limit`, `shuffle_passages`; None is left out): recorded, and part of the command on the card.
        collect: what to learn from, ablations a question and the like.
        fit_settings: the optimiser's, for ablations.
        evidence_settings: the same for evidence.
        row_groups: rows to learn coefficients for; None takes the draft's, and to learn from evidence the question's
            and the sources' own.
        holdout: part of the questions kept for measuring fidelity, chosen by a hash of their ids.
        examples: the folder whose examples are used, and added to; by default `out`.
        progress: called once a question.
        fit_progress: called with step and correlation.

    Raises:
        InputError: bad settings, or another run's folder.
        DataError: no question gave an example.
    """
    evidence = collect.learn_from == "evidence"
    row_groups = tuple(row_groups or (EVIDENCE_ROWS if evidence else (DRAFT_ROWS,)))
    depth = getattr(language_model.model.config.get_text_config(), "num_hidden_layers", None)
    if evidence:
        collect = replace(collect, ablations=0)
        if collect.layers is None and depth and all(group.rows != "draft" for group in row_groups):
            collect = replace(collect, layers=tuple(range(max(1, depth // 3))))
        if collect.layers is not None and not (
            collect.layers and all(0 <= layer < (depth or layer + 1) for layer in collect.layers)
        ):
            raise InputError(f"layers must be indices below {depth}, got {list(collect.layers)}")
    elif any(group.rows == "sources" for group in row_groups):
        raise InputError(
            "links between sources are learned from evidence: ablations of one draft do not tell them apart"
        )
    elif collect.layers is not None:
        raise InputError("ablations run all layers: layers is for learning from evidence")
    elif collect.learn_from == "answer" and collect.targets == "sentence":
        raise InputError("the known answer is one target: to learn from the sentences of a draft, learn from drafts")
    elif collect.ablations < 2:
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
        **{key: value for key, value in asdict(collect).items() if key not in _NEW or value != _NEW[key]},
    }
    selection = {key: value for key, value in (selection or {}).items() if value is not None}
    if "shuffle_passages" in selection:  # the rest says which questions, this what they look like
        settings["shuffle_passages"] = selection["shuffle_passages"]
    store = ExampleStore(out if examples is None else examples, settings)
    skipped = collect_examples(language_model, questions, store, collect, progress, row_groups)
    held_ids = {i for i in ids if int(hashlib.sha256(i.encode()).hexdigest()[:8], 16) / 2**32 < holdout}
    complete = [example for example in store.load(ids) if all(group.name in example.mass for group in row_groups)]
    fitted = [example for example in complete if example.question_id not in held_ids]
    held = [example for example in complete if example.question_id in held_ids]
    if not fitted:
        raise DataError(f"{data_name}: no question gave an example to fit ({skipped})")
    read = fitted[0].layers
    measures: dict[str, dict[str, Estimate]] = {}
    curve: list[tuple[int, float]] = []
    if evidence:
        weight = fit_evidence(fitted, row_groups, range(len(read)), evidence_settings)
    else:
        weight, curve = fit(fitted, row_groups, fit_settings, fit_progress)
    average = torch.full((1, *weight.shape[1:]), 1 / weight[0].numel())
    plain = (next(g for g in row_groups if g.rows != "sources"),) if evidence else (DRAFT_ROWS,)
    for name, groups, candidate in (("learned", row_groups, weight), ("average_attention", plain, average)):
        found = gold_found(held, groups, candidate) if evidence else vars(fidelity(held, groups, candidate))
        for measure, values in found.items() if held else ():
            measures.setdefault(measure, {})[name] = bootstrap_mean(values.tolist())
    recorded: dict[str, Any] = {
        "method": METHODS[collect.learn_from],
        "learn_from": collect.learn_from,
        **settings,
        **selection,
        "holdout": holdout,
        "questions_fitted": len(fitted),
        "questions_held_out": len(held),
        "fit": asdict(evidence_settings if evidence else fit_settings),
        "curve": curve,
        **{measure: {name: asdict(value) for name, value in by.items()} for measure, by in measures.items()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    config = language_model.model.config
    coefficients = HeadCoefficients(weight, row_groups, read, language_model.name, config.model_type, recorded, depth)
    (Path(out) / "README.md").unlink(missing_ok=True)  # an earlier run's card, which the mixin would keep
    coefficients.save_pretrained(Path(out))
    return TrainingReport(coefficients, len(fitted), len(held), skipped, curve, measures)
