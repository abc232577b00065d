"""Choose k by the answer's probability, and compare with fixed k and other signals.

    $ python research/confidence.py --data hotpotqa/validation.jsonl --limit 100 --dtype bfloat16

Every question is answered from the best 1, 2, 3 and 5 passages of a method and from all passages. Rules then choose one
of these answers without the true answer. Prints F1 of each fixed k and of each rule, with 95 % bootstrap intervals over
questions; the paired difference to no pruning; and how many right answers become wrong and wrong ones right (right: F1
of at least 0.5). Then prints how well signals predict that pruning to two passages loses F1 (area under the ROC curve;
0.5 is chance). Answers are kept in --cache.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.datasets import Question, load_questions
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.selection import top_k
from at2_prune.scorers import Scorer, Task
from at2_prune.scorers.fusion import standardised
from at2_prune.scorers.registry import load_scorer
from at2_prune_eval import CachedLoop, answer_scores
from at2_prune_eval.loop.cache import ModelCache
from at2_prune_eval.metrics import normalize_answer

ALL = 0
"""The key for all passages, in place of k."""


@dataclass(frozen=True)
class Tried:
    """An answer of one question."""

    text: str
    f1: float
    log_p: float
    tokens: int


@dataclass(frozen=True)
class Asked:
    """The answers to one question by k, and the scores of its passages, best first."""

    answers: dict[int, Tried]
    scores: list[float]


def ask(loop: CachedLoop, scorer: Scorer, questions: Sequence[Question], ks: Sequence[int]) -> list[Asked]:
    lm = loop.language_model
    asked = []
    for question in tqdm(questions, unit="question"):
        whole = lm.encode(question.text, question.passages)
        draft = loop.draft(whole, scorer.row_groups).draft if scorer.uses_draft else Draft("", [])
        scores = scorer.score(Task(lm, question.text, question.passages, whole, draft)).tolist()
        kept = {k: top_k(scores, k) for k in ks}
        prompts = {ALL: whole} | {
            k: lm.encode(question.text, [question.passages[i] for i in some]) for k, some in kept.items()
        }
        written = loop.write_answers(list(prompts.values()), draft.ids)
        answers = {
            k: Tried(
                answer.text,
                answer_scores(answer.text, [question.answer or "", *question.aliases]).f1,
                answer.log_probability,
                max(1, len(lm.encode_draft(answer.text))),
            )
            for k, answer in zip(prompts, written, strict=True)
        }
        asked.append(Asked(answers, sorted(scores, reverse=True)))
    return asked


def rules(ks: Sequence[int]) -> dict[str, Callable[[Asked], Tried]]:
    """Return the rules that choose an answer, by name."""

    def best(some: Sequence[int], confidence: Callable[[Tried], float]) -> Callable[[Asked], Tried]:
        return lambda asked: max((asked.answers[k] for k in some), key=confidence)

    def agreed(some: Sequence[int]) -> Callable[[Asked], Tried]:
        def take(asked: Asked) -> Tried:
            texts = [normalize_answer(asked.answers[k].text) for k in some]
            return asked.answers[max(some, key=lambda k: texts.count(normalize_answer(asked.answers[k].text)))]

        return take

    def total(tried: Tried) -> float:
        return tried.log_p

    def mean(tried: Tried) -> float:
        return tried.log_p / (tried.tokens + 1)

    chosen: dict[str, Callable[[Asked], Tried]] = {"all": lambda asked: asked.answers[ALL]}
    chosen |= {f"k = {k}": best([k], total) for k in ks}
    for count in range(2, len(ks) + 1):
        chosen[f"most confident of {', '.join(map(str, ks[:count]))}"] = best(ks[:count], total)
    chosen[f"most confident of {', '.join(map(str, ks))}, all"] = best([*ks, ALL], total)
    chosen["most confident of 2, all"] = best([2, ALL], total)
    chosen["most confident by mean log-probability"] = best(ks, mean)
    chosen["most frequent answer"] = agreed(ks)
    return chosen


def area(signal: Sequence[float], bad: Sequence[bool]) -> str:
    """Return the area under the ROC curve, with a 95 % interval: how often a loss has a lower signal than no loss."""
    values, wrong = torch.tensor(signal), torch.tensor(bad)
    drawn = torch.randint(len(values), (2000, len(values)), generator=torch.Generator().manual_seed(0))
    areas = [_area(values[rows], wrong[rows]) for rows in (torch.arange(len(values)), *drawn)]
    ends = torch.tensor([0.025, 0.975])
    low, high = torch.tensor([value for value in areas[1:] if not math.isnan(value)]).quantile(ends).tolist()
    return f"{areas[0]:.2f} [{low:.2f}, {high:.2f}]"


def _area(values: torch.Tensor, wrong: torch.Tensor) -> float:
    lows, highs = values[wrong][:, None], values[~wrong][None]
    return float(((lows < highs) + 0.5 * (lows == highs)).mean()) if lows.numel() and highs.numel() else math.nan


def entropy(scores: Sequence[float]) -> float:
    p = standardised(torch.tensor(scores)).softmax(0)
    return float(-(p * p.log()).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--method")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--model")
    parser.add_argument("--coefficients")
    parser.add_argument("--dtype")
    parser.add_argument("--cache")
    args = parser.parse_args()
    lm = LanguageModel.load(args.model, dtype=args.dtype)
    questions = load_questions(args.data, limit=args.limit, offset=args.offset, require=["answer"])
    scorer = load_scorer(lm, args.method, args.coefficients)
    ks = sorted({*args.k, 2})
    asked = ask(CachedLoop(lm, ModelCache(args.cache)), scorer, questions, ks)
    base = [one.answers[ALL].f1 for one in asked]
    print(f"{lm.name}, {scorer.name}, {len(asked)} questions\n")
    print(f"{'':<34}{'F1':<24}{'against all':<26}right to wrong, wrong to right")
    for name, rule in rules(ks).items():
        f1 = [rule(one).f1 for one in asked]
        gain = bootstrap_difference(f1, base)
        lost = sum(old >= 0.5 > new for new, old in zip(f1, base, strict=True))
        won = sum(new >= 0.5 > old for new, old in zip(f1, base, strict=True))
        print(f"{name:<34}{bootstrap_mean(f1)!s:<24}{gain!s:<26}{lost}, {won}")
    worse = [one.answers[2].f1 < one.answers[ALL].f1 for one in asked]
    signals = {
        "log-probability of the new answer": [one.answers[2].log_p for one in asked],
        "that minus the old answer's": [one.answers[2].log_p - one.answers[ALL].log_p for one in asked],
        "old and new agree": [
            float(normalize_answer(one.answers[2].text) == normalize_answer(one.answers[ALL].text)) for one in asked
        ],
        "gap between the 2nd and 3rd score": [one.scores[1] - one.scores[min(2, len(one.scores) - 1)] for one in asked],
        "certainty of the scores (-entropy)": [-entropy(one.scores) for one in asked],
    }
    print(f"\npruning to 2 loses F1 on {sum(worse)} of {len(worse)}; area under the ROC curve of signals for it")
    for name, signal in signals.items():
        print(f"{name:<36}{area(signal, worse)}")


if __name__ == "__main__":
    main()
