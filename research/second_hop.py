"""Score twice, the second time with the best passage joined to the question or moved next to it.

    $ python research/second_hop.py --data hotpotqa/validation.jsonl --limit 100 --dtype bfloat16

The best passage of the first scores stays the best; the second scores order the others. "Joined" puts its text before
the question, among the rows that are read, and no longer among the passages. "Last" puts it behind all other passages,
so that its rows attend to all of these. "Added" sums the z-scores of the first and second scores. Prints the
share of gold passages among the best 2 and 3, and the paired difference to one round, with 95 % bootstrap intervals
over questions. Nothing is answered.
"""

from __future__ import annotations

import argparse

import torch
from tqdm import tqdm

from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.datasets import Question, load_questions
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.scorers import Scorer, Task
from at2_prune.scorers.fusion import standardised
from at2_prune.scorers.registry import load_scorer

KS = (2, 3)


def rankings(scorer: Scorer, lm: LanguageModel, question: Question) -> dict[str, list[int]]:
    """Return the three best passages by the name of each way to choose them."""
    passages = question.passages

    def scores(text: str, order: list[int]) -> torch.Tensor:
        """Score the passages, shown in this order. Passages that are left out get minus infinity."""
        shown: list[Passage] = [passages[i] for i in order]
        found = torch.full((len(passages),), -torch.inf)
        found[order] = scorer.score(Task(lm, text, shown, lm.encode(text, shown), Draft("", [])))
        return found

    once = scores(question.text, list(range(len(passages))))
    best = int(once.argmax())
    others = [i for i in range(len(passages)) if i != best]
    joined = scores(f"{passages[best].title}: {passages[best].text}\n{question.text}", others)
    last = scores(question.text, [*others, best])

    def after_best(second: torch.Tensor) -> list[int]:
        return [best, *sorted(others, key=lambda i: -float(second[i]))[: KS[-1] - 1]]

    def added(second: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(passages))
        total[others] = standardised(once[others]) + standardised(second[others])
        return total

    return {
        "one round": after_best(once),
        "best joined to the question": after_best(joined),
        "best joined, added to one round": after_best(added(joined)),
        "best last": after_best(last),
        "best last, added to one round": after_best(added(last)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N questions (default: all)")
    parser.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N")
    parser.add_argument("--model", help="(default: the embedded one)")
    parser.add_argument("--coefficients", metavar="DIR", help="scout's coefficients, for another model")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    questions = [
        question
        for question in load_questions(args.data, limit=args.limit, offset=args.offset)
        if question.gold and len(question.passages) > KS[-1]
    ]
    lm = LanguageModel.load(args.model, dtype=args.dtype)
    scorer = load_scorer(lm, "scout", args.coefficients)
    found: dict[str, dict[int, list[float]]] = {}
    for question in tqdm(questions, unit="question"):
        for name, ranking in rankings(scorer, lm, question).items():
            for k in KS:
                part = len({*ranking[:k]} & {*question.gold}) / len(question.gold)
                found.setdefault(name, {}).setdefault(k, []).append(part)
    print(f"{lm.name}, {len(questions)} questions; recall of gold passages, 95 % intervals over questions\n")
    print(f"{'':<34}" + "".join(f"{title:<24}" for title in ("recall@2", "recall@3", "recall@2, paired", "@3, paired")))
    for name, values in found.items():
        base = found["one round"]
        shown = [bootstrap_mean(values[k]) for k in KS]
        shown += [bootstrap_difference(values[k], base[k]) for k in KS]
        print(f"{name:<34}" + "".join(f"{value!s:<24}" for value in shown))


if __name__ == "__main__":
    main()
