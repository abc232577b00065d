"""Test a second round: prune the passages that a first round kept, by a draft that is written from them.

    $ python research/rounds.py --data hotpotqa/validation.jsonl --limit 100 --dtype bfloat16

A first method keeps five passages. The model drafts again from these, AT2 scores them by the new draft's attention, and
the answer is written from the best two or three. In a variant, the scores of both methods are added, as z-scores over
the five. Prints F1 and the paired difference to the first method alone at the same k, with 95 % intervals by bootstrap
over questions. Drafts and answers are kept in --cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

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

FIRST, KS = 5, (2, 3)


class Rounds:
    """Scores and answers of one question, by the passages that are shown."""

    def __init__(self, loop: CachedLoop, question: Question) -> None:
        self.loop = loop
        self.question = question

    def scores(self, scorer: Scorer, shown: Sequence[int]) -> list[float]:
        """Return one score for each passage shown; all are 0 if the model wrote nothing."""
        lm, passages = self.loop.language_model, [self.question.passages[i] for i in shown]
        prompt = lm.encode(self.question.text, passages)
        draft = self.loop.draft(prompt, scorer.row_groups).draft if scorer.uses_draft else Draft("", [])
        if scorer.uses_draft and not draft.ids:
            return [0.0] * len(shown)
        return scorer.score(Task(lm, self.question.text, passages, prompt, draft)).tolist()

    def f1(self, sets: Sequence[Sequence[int]]) -> list[float]:
        """Return the F1 of the answer from each of these sets of passages."""
        lm, question = self.loop.language_model, self.question
        prompts = [lm.encode(question.text, [question.passages[i] for i in some]) for some in sets]
        truths = [question.answer or "", *question.aliases]
        return [answer_scores(answer.text, truths).f1 for answer in self.loop.write_answers(prompts)]


def ways(rounds: Rounds, scout: Scorer, at2: Scorer) -> dict[str, list[int]]:
    """Return the passages that the answer is written from, by the name of the way."""
    everything = list(range(len(rounds.question.passages)))
    chosen: dict[str, list[int]] = {}
    for first in (scout, at2):
        scores = rounds.scores(first, everything)
        few = top_k(scores, FIRST)
        again = rounds.scores(at2, few)
        added = (standardised(torch.tensor([scores[i] for i in few])) + standardised(torch.tensor(again))).tolist()
        for k in KS:
            chosen[f"{first.name}, k = {k}"] = top_k(scores, k)
            chosen[f"{first.name} to {FIRST}, at2 to {k}"] = [few[i] for i in top_k(again, k)]
            chosen[f"{first.name} to {FIRST}, both to {k}"] = [few[i] for i in top_k(added, k)]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N questions (default: all)")
    parser.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N questions")
    parser.add_argument("--model", help="(default: the embedded one)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--cache", metavar="FILE", help="(default: in the user's cache)")
    args = parser.parse_args()
    lm = LanguageModel.load(args.model, dtype=args.dtype)
    questions = load_questions(args.data, limit=args.limit, offset=args.offset, require=["answer"])
    loop = CachedLoop(lm, ModelCache(args.cache))
    scout, at2 = load_scorer(lm, "scout"), load_scorer(lm, "at2")
    found: dict[str, list[float]] = {}
    for question in tqdm(questions, unit="question"):
        rounds = Rounds(loop, question)
        chosen = ways(rounds, scout, at2)
        for name, f1 in zip(chosen, rounds.f1(list(chosen.values())), strict=True):
            found.setdefault(name, []).append(f1)
    print(f"{lm.name}, {len(questions)} questions\n\n{'':<26}{'F1':<24}against the first method alone")
    for name, values in found.items():
        alone = found[f"{name.split()[0].rstrip(',')}, k = {name[-1]}"]
        gain = bootstrap_difference(values, alone)
        print(f"{name:<26}{bootstrap_mean(values)!s:<24}{gain if alone is not values else ''}")


if __name__ == "__main__":
    main()
