"""Define a metric of Hugging Face `evaluate` that scores answers and supporting passages.

`evaluate.load(METRIC_PATH)` copies this file to another folder and runs the copy, so all imports are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import datasets
import evaluate

from at2_prune.errors import InputError
from at2_prune_eval.metrics.answers import answer_scores
from at2_prune_eval.metrics.support import support_scores

_DESCRIPTION = """The metric gives answer EM, F1, precision and recall as the official HotpotQA script computes them
(yes and no count only as the whole answer). It also gives the recall, precision and F1 of the supporting passages among
the kept passages, and whether all supporting passages were kept. The values are means over questions."""
_INPUTS = """
Args:
    predictions: a list of {"id": str, "answer": str, "kept": [int, ...]}. kept holds the indices of the kept passages.
    references: a list of {"id": str, "answers": [str, ...], "gold": [int, ...]}, matched to the predictions by id.
        answers holds answers that are equally right. HotpotQA has one answer for a question, and MuSiQue has several.
        gold holds the indices of the supporting passages.
    ks: values of k. With ks, kept must be a ranking, best first. For each k, the first k passages of the ranking are
        scored. By default, all kept passages are scored.
"""
_CITATION = """@inproceedings{yang2018hotpotqa,
  title={{HotpotQA}: A Dataset for Diverse, Explainable Multi-hop Question Answering},
  author={Yang, Zhilin and Qi, Peng and Zhang, Saizheng and Bengio, Yoshua and Cohen, William W. and
    Salakhutdinov, Ruslan and Manning, Christopher D.},
  booktitle={EMNLP},
  year={2018}
}"""


class HotpotQAMetric(evaluate.Metric):
    """The mean scores of answers and of supporting passages over questions.

    `compute(predictions=, references=, ks=None)` returns `em`, `f1`, `precision`, `recall`, `gold_recall`,
    `gold_precision`, `gold_f1` and `both_gold`. With `ks`, the last four scores are given for each k, under names such
    as `gold_recall@3`. `inputs_description` describes the inputs.

    Raises:
        InputError: ids repeat or do not match, a reference has no answer or no gold passage, or a k is below 1.
        ValueError: a field has the wrong type.

    Example:
        >>> metric = HotpotQAMetric()
        >>> metric.compute(
        ...     predictions=[{"id": "q1", "answer": "the river Meuse", "kept": [5, 2, 8]}],
        ...     references=[{"id": "q1", "answers": ["Meuse"], "gold": [5, 8]}],
        ...     ks=[2],
        ... )  # doctest: +NORMALIZE_WHITESPACE
        {'em': 0.0, 'f1': 0.6666666666666666, 'precision': 0.5, 'recall': 1.0,
         'gold_recall@2': 0.5, 'gold_precision@2': 0.5, 'gold_f1@2': 0.5, 'both_gold@2': 0.0}
    """

    def _info(self) -> evaluate.MetricInfo:
        text, numbers = datasets.Value("string"), datasets.List(datasets.Value("int64"))
        features = {
            "predictions": {"id": text, "answer": text, "kept": numbers},
            "references": {"id": text, "answers": datasets.List(text), "gold": numbers},
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
            reference_urls=["https://hotpotqa.github.io", "https://github.com/hotpotqa/hotpot"],
        )

    def _compute(
        self,
        predictions: Sequence[Mapping[str, Any]],
        references: Sequence[Mapping[str, Any]],
        ks: Sequence[int] | None = None,
    ) -> dict[str, float]:
        if not predictions:
            raise InputError("there is no question to score")
        if any(k < 1 for k in ks or ()):
            raise InputError(f"k must be at least 1, got {list(ks or ())}")
        predicted, known = _by_id(predictions, "predictions"), _by_id(references, "references")
        if unmatched := sorted(predicted.keys() ^ known.keys()):
            raise InputError(f"predictions and references must have the same ids; only one side has {unmatched[:5]}")
        rows = [_scores(predicted[name], reference, ks) for name, reference in known.items()]
        return {score: fmean(row[score] for row in rows) for score in rows[0]}


def _scores(prediction: Mapping[str, Any], reference: Mapping[str, Any], ks: Sequence[int] | None) -> dict[str, float]:
    kept, gold = prediction["kept"], reference["gold"]
    try:
        scores = asdict(answer_scores(prediction["answer"], reference["answers"]))
        if ks is None:
            return scores | asdict(support_scores(kept, gold))
        at = {k: asdict(support_scores(kept[:k], gold)) for k in ks}
    except InputError as error:
        raise InputError(f"question {reference['id']!r}: {error}") from None
    return scores | {f"{name}@{k}": value for k in ks for name, value in at[k].items()}


def _by_id(rows: Sequence[Mapping[str, Any]], what: str) -> dict[str, Mapping[str, Any]]:
    found = {row["id"]: row for row in rows}
    if len(found) < len(rows):
        raise InputError(f"{what}: ids must differ, but {len(rows)} rows have {len(found)} ids")
    return found
