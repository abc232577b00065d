"""Test coefficients that were learned on ten passages and one prompt with other numbers, orders and prompts.

    $ python research/transfer.py --data hotpotqa/validation.jsonl --limit 100 --dtype bfloat16

Scout's coefficients score the same questions in other settings, unchanged. Additional passages come from the
file's other questions. They are the passages that BM25 ranks highest, so that they are as misleading as possible. Then
all passages are shuffled. Prints the share of gold passages among the best 2 and 3, for scout, BM25 and a sentence
embedder, and scout's paired difference at 3 to each. Intervals are 95 %, by bootstrap over questions. Nothing is
answered.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import bm25s
import torch
from tqdm import tqdm

from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.datasets import Question, load_questions
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import PromptTemplate, TextTemplate
from at2_prune.passages import Granularity
from at2_prune.pruning.selection import top_k
from at2_prune.scorers import BM25Scorer, DenseScorer, Scorer, Task
from at2_prune.scorers.registry import load_scorer

KS = (2, 3)


@dataclass(frozen=True)
class Setting:
    """One setting: the change of the questions, the prompt, and the granularity."""

    name: str
    change: Callable[[Question], Question] = lambda question: question
    template: PromptTemplate | None = None
    granularity: Granularity = "passage"


class More:
    """Add the passages of other questions that BM25 ranks highest."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.passages = list(dict.fromkeys(passage for question in questions for passage in question.passages))
        texts = [f"{passage.title}\n{passage.text}" for passage in self.passages]
        self.index = bm25s.BM25()
        self.index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)

    def __call__(self, question: Question, count: int) -> Question:
        wanted = count - len(question.passages)
        (best,), _ = self.index.retrieve(
            bm25s.tokenize([question.text], show_progress=False), k=count + len(question.passages), show_progress=False
        )
        titles = {passage.title for passage in question.passages}
        new = [self.passages[i] for i in best.tolist() if self.passages[i].title not in titles][:wanted]
        return replace(question, passages=(*question.passages, *new)).shuffled(0)


def fewer(question: Question, count: int) -> Question:
    """Keep the gold passages and the first other passages, in their order."""
    others = [i for i in range(len(question.passages)) if i not in question.gold][: count - len(question.gold)]
    kept = sorted([*question.gold, *others])
    gold = tuple(kept.index(i) for i in question.gold)
    return replace(question, passages=tuple(question.passages[i] for i in kept), gold=gold)


def recalls(scorer: Scorer, language_model: LanguageModel, setting: Setting, question: Question) -> list[float]:
    """Return recall at each of `KS`. A passage has the score of its best sentence."""
    prompt = language_model.encode(question.text, question.passages, setting.granularity)
    scores = scorer.score(Task(language_model, question.text, question.passages, prompt, Draft("", [])))
    owner = torch.tensor(prompt.source_passage)
    best = torch.stack([scores[owner == i].amax() for i in range(len(question.passages))])
    return [len({*top_k(best.tolist(), k)} & {*question.gold}) / len(question.gold) for k in KS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N questions (default: all)")
    parser.add_argument(
        "--passages", type=int, nargs="+", default=[20, 30], help="numbers of passages, beside 5 and 10"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="WORDS", help="only settings whose names contain one of these words"
    )
    parser.add_argument("--model", help="(default: the embedded one)")
    parser.add_argument("--coefficients", metavar="DIR", help="scout's coefficients, for another model")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    everything = load_questions(args.data)
    questions = [question for question in everything if question.gold][: args.limit]
    more = More(everything)
    plain = TextTemplate(name="no examples", examples="")
    numbered = TextTemplate(
        name="other words",
        instruction="Use the passages below to reply to the query.\n\n",
        examples="",
        passage="### {title}\n{text}\n\n",
    )
    settings = [
        Setting("as in training: ten, the data's order"),
        Setting("ten, shuffled", lambda question: question.shuffled(1)),
        Setting("five", lambda question: fewer(question, 5)),
        *(Setting(f"{n}, shuffled", lambda question, n=n: more(question, n)) for n in args.passages),  # type: ignore[misc]
        Setting("ten, no worked examples", template=plain),
        Setting("ten, other words and frame", template=numbered),
        Setting("ten, sentences as sources", granularity="sentence"),
    ]
    if args.only:
        settings = [setting for setting in settings if any(words in setting.name for words in args.only)]
    language_model = LanguageModel.load(args.model, dtype=args.dtype)
    scout = load_scorer(language_model, "scout", args.coefficients)
    print(
        f"{language_model.name}, {len(questions)} questions; recall of gold passages, 95 % intervals over questions\n"
    )
    columns = ["scout@2", "scout@3", "BM25@3", "dense@3", "scout - BM25 @3", "scout - dense @3"]
    print(f"{'':<40}" + "".join(f"{name:<23}" for name in columns))
    for setting in settings:
        lm = LanguageModel(language_model.model, language_model.tokenizer, setting.template, language_model.name)
        rankers = {"scout": scout, "bm25": BM25Scorer(), "dense": DenseScorer()}
        values: dict[str, list[list[float]]] = {name: [] for name in rankers}
        for question in tqdm(questions, desc=setting.name, unit="question", leave=False):
            changed = setting.change(question)
            for name, ranker in rankers.items():
                values[name].append(recalls(ranker, lm, setting, changed))
        two, three = ([row[place] for row in values["scout"]] for place in range(len(KS)))
        bm25, dense = ([row[-1] for row in values[name]] for name in ("bm25", "dense"))
        shown = [bootstrap_mean(value) for value in (two, three, bm25, dense)]
        shown += [bootstrap_difference(three, other) for other in (bm25, dense)]
        print(f"{setting.name:<40}" + "".join(f"{value!s:<22} " for value in shown), flush=True)


if __name__ == "__main__":
    main()
