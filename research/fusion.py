"""Measure the recall of gold passages if a retriever's score is added to the attention score; cross-validated.

    $ python research/fusion.py runs/scout --data hotpotqa/train.jsonl

Takes a folder of `at2-prune train --learn-from evidence` and the questions it was made from. Coefficients are fitted to
four fifths and score the remaining fifth, in turn. Scores of BM25 and of a sentence embedder are added, as weighted
z-scores within the question or by reciprocal rank. Intervals are 95 %, by bootstrap over questions; differences are
paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from folds import BEST, FOLDS, load

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import load_questions
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.scorers import BM25Scorer, DenseScorer, Scorer, Task
from at2_prune.scorers.fusion import standardised
from at2_prune.training import fit_evidence
from at2_prune.training.examples import Example

Scores = Sequence[torch.Tensor]


def attention_scores(examples: Sequence[Example]) -> list[torch.Tensor]:
    """Return the scores of every example, from coefficients that were not fitted to this example."""
    groups = [RowGroup.from_name(name) for name in BEST]
    layers = range(len(examples[0].layers))
    scores = []
    for fold in range(FOLDS):
        weight = fit_evidence([e for i, e in enumerate(examples) if i % FOLDS != fold], groups, layers)
        coefficients = HeadCoefficients(weight, groups)
        for place, example in enumerate(examples):
            if place % FOLDS == fold:
                scores.append((place, coefficients.score({g: example.mass[g.name][0] for g in groups})))
    return [score for _, score in sorted(scores, key=lambda entry: entry[0])]


def places(scores: torch.Tensor) -> torch.Tensor:
    return scores.argsort(descending=True, stable=True).argsort()


def recall(examples: Sequence[Example], scores: Scores, k: int = 2) -> list[float]:
    best = [score.argsort(descending=True, stable=True)[:k] for score in scores]
    return [float(e.gold[b].sum() / e.gold.sum()) for e, b in zip(examples, best, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train --learn-from evidence")
    parser.add_argument("--data", required=True, help="the questions of that folder")
    args = parser.parse_args()
    language_model = LanguageModel.load()  # only its tokenizer is used, for the prompts
    questions = {question.id: question for question in load_questions(args.data)}
    examples = load(args.run)
    tasks = []
    for example in examples:
        question = questions[example.question_id]
        prompt = language_model.encode(question.text, question.passages)
        tasks.append(Task(language_model, question.text, question.passages, prompt, Draft("", [])))
    attention = attention_scores(examples)
    base = recall(examples, attention)
    print(f"{len(examples)} questions, {FOLDS} folds, layers {examples[0].layers}; recall of gold passages at 2")
    print(f"{'attention':<26}{bootstrap_mean(base)}")
    rankers: list[Scorer] = [BM25Scorer(), DenseScorer()]
    for ranker in rankers:
        other = [ranker.score(task).double() for task in tasks]
        print(f"{ranker.name:<26}{bootstrap_mean(recall(examples, other))}")
        mixed = {
            f"+ {weight} {ranker.name}": [
                standardised(a) + weight * standardised(b) for a, b in zip(attention, other, strict=True)
            ]
            for weight in (0.1, 0.2, 0.3, 0.5, 1.0)
        }
        mixed[f"reciprocal ranks, {ranker.name}"] = [
            1 / (60 + places(a)) + 1 / (60 + places(b)) for a, b in zip(attention, other, strict=True)
        ]
        for title, scores in mixed.items():
            found = recall(examples, scores)
            gain = bootstrap_difference(found, base)
            print(f"{title:<26}{bootstrap_mean(found)}   against attention alone {gain}", flush=True)


if __name__ == "__main__":
    main()
