"""Find the sentences that HotpotQA names as supporting facts, with sentences as sources.

    $ python research/sentences.py --data hotpotqa/validation.jsonl --limit 100 --out runs/sentences.jsonl

`scout` multiplies the score of a passage by a sentence's share among the sentences of this passage. The shares are of
first scores, or with `links too` of scores with links. `as passages` compares sentences as if they were passages, with
links or by first scores alone. `plus passage` adds the passage's score. `best two` puts the sentences of the best two
passages first. Sums with BM25 and dense retrieval are sums of standardised scores. Scores are stored as they are
computed, and an interrupted run goes on. Intervals are 95 %, by bootstrap over questions; differences are paired.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.datasets import Question, load_questions
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.features import best_units, link_features, question_features, question_sums
from at2_prune.passage_index.sources import source_units
from at2_prune.pruning.selection import top_k
from at2_prune.scorers import BM25Scorer, DenseScorer, Task
from at2_prune.scorers.fusion import standardised
from at2_prune.scorers.registry import load_scorer
from at2_prune.scorers.scout import CANDIDATES, ScoutScorer

KS = (2, 3, 5, 8)
PASSAGES = 2
"""The number of passages whose sentences come first in `best two`."""
Row = dict[str, Any]


def supporting(question: Question, facts: dict[str, list[Any]]) -> list[int]:
    """Return the indices of the supporting sentences among all sentences. A fact without a sentence is left out."""
    first, count = [], 0
    for passage in question.passages:
        first.append(count)
        count += len(passage.sentences or ())
    named = set(zip(facts["title"], facts["sent_id"], strict=True))
    return [
        start + sentence
        for start, passage in zip(first, question.passages, strict=True)
        for sentence in range(len(passage.sentences or ()))
        if (passage.title, sentence) in named
    ]


def as_passages(scout: ScoutScorer, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of sources that are compared as if they were passages: first scores, and scores with links."""
    index, prompt = scout.index(task.language_model), task.prompt
    units, sources = source_units(index, task.passages, prompt.source_passage, prompt.source_texts)
    question = index.question(task.question)
    sums = question_sums(question, units)
    first = scout.coefficients.first_scores(question_features(sums))
    best = sorted(best_units(first, sources), key=lambda unit: -float(first[unit]))
    compared = sorted(best[:CANDIDATES])
    some, softcaps = [units[i] for i in compared], index.softcaps(question)
    linked = scout.coefficients.score(
        question_features(sums.of(compared)), lambda chosen: link_features([some[i] for i in chosen], some, softcaps)
    ).log()
    scores = torch.full((2, len(prompt.source_texts)), -1e9, dtype=torch.float64)
    for unit in best:
        scores[0, sources[unit]] = first[unit]
        scores[1, sources[unit]] = float(linked.min()) - 1 - float(first[best[0]] - first[unit])
    for unit, value in zip(compared, linked.tolist(), strict=True):
        scores[1, sources[unit]] = value
    return scores[0], scores[1]


def collect(question: Question, facts: dict[str, list[Any]], scout: ScoutScorer, lm: LanguageModel) -> Row:
    """Score the sentences and the passages of one question."""

    def task(granularity: str) -> Task:
        prompt = lm.encode(question.text, question.passages, granularity)  # type: ignore[arg-type]
        return Task(lm, question.text, question.passages, prompt, Draft("", []))

    sentences, passages = task("sentence"), task("passage")
    first, linked = as_passages(scout, sentences)
    scores = {
        "scout": scout.score(sentences),
        "first": first,
        "linked": linked,
        "bm25": BM25Scorer().score(sentences),
        "dense": DENSE.score(sentences),
        "passage": scout.score(passages),
        "passage bm25": BM25Scorer().score(passages),
        "passage dense": DENSE.score(passages),
    }
    return {
        "id": question.id,
        "gold": supporting(question, facts),
        "owner": sentences.prompt.source_passage,
        "tokens": [stop - start for start, stop in sentences.prompt.sources],
        "scores": {name: values.tolist() for name, values in scores.items()},
    }


DENSE = DenseScorer()


def readings(row: Row) -> dict[str, list[float]]:
    """Return the scores of the sentences, by the name of each way to make scores."""
    owner = torch.tensor(row["owner"])
    scores = {name: torch.tensor(values, dtype=torch.float64) for name, values in row["scores"].items()}
    scores["scout"], passage = scores["scout"].log(), scores["passage"].log()
    best = torch.zeros(len(passage)).index_fill(0, torch.tensor(top_k(passage.tolist(), PASSAGES)), 1.0)
    first, linked = scores["first"], scores["linked"]
    found = {
        **{name: scores[name] for name in ("scout", "bm25", "dense")},
        "scout, links too": _given(linked, passage, owner),
    }
    for name, own in (("as passages, first scores", first), ("as passages", linked)):
        found[f"scout, {name}"] = own
        found[f"scout, {name}, plus passage"] = own + passage[owner]
        found[f"scout, {name}, best two"] = own + 1e7 * best[owner]
    for name in ("bm25", "dense"):
        found[f"{name}, plus its passage"] = standardised(scores[name]) + standardised(scores[f"passage {name}"])[owner]
        found[f"{name}, plus scout's passage"] = standardised(scores[name]) + standardised(passage)[owner]
        found[f"scout, plus {name}"] = standardised(scores["scout"]) + standardised(scores[name])
    return {name: values.tolist() for name, values in found.items()}


def _given(own: torch.Tensor, passage: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    total = passage.log_softmax(0)[owner]
    for one in owner.unique():
        total[owner == one] += own[owner == one].log_softmax(0)
    return total


def report(rows: Sequence[Row], base: str) -> None:
    """Print recall at each of KS and the mean rank of supporting sentences, and differences to `base`."""
    measured: dict[str, list[list[float]]] = {}
    for row in rows:
        gold = {*row["gold"]}
        for name, scores in readings(row).items():
            order = top_k(scores, len(scores), "score")
            recall = [len(gold & {*order[:k]}) / len(gold) for k in KS]
            rank = sum(order.index(sentence) + 1 for sentence in gold) / len(gold)
            measured.setdefault(name, []).append([*recall, rank])
    titles = [*(f"recall@{k}" for k in KS), "mean rank"]
    sentences, named = (sum(len(row[key]) for row in rows) / len(rows) for key in ("owner", "gold"))
    print(f"{len(rows)} questions with {sentences:.1f} sentences, {named:.2f} of them supporting\n")
    for place, title in enumerate(titles):
        print(f"{title:<50}{'':<24}less {base}")
        other = [values[place] for values in measured[base]]
        for name, found in measured.items():
            values = [one[place] for one in found]
            paired = "" if name == base else str(bootstrap_difference(values, other))
            print(f"  {name:<48}{bootstrap_mean(values)!s:<24}{paired}")
        print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--coefficients", help="scout's coefficients; by default those in the package")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--base", default="bm25", help="the reading that others are compared with (default: bm25)")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="the file of scores, one line for each question"
    )
    args = parser.parse_args()
    lines = map(json.loads, args.data.read_text(encoding="utf-8").splitlines())
    facts = {str(row["id"]): row["supporting_facts"] for row in lines}
    questions = load_questions(args.data, offset=args.offset, limit=args.limit)
    done = {}
    if args.out.is_file():
        done = {row["id"]: row for row in map(json.loads, args.out.read_text(encoding="utf-8").splitlines())}
    missing = [question for question in questions if question.id not in done]
    if missing:
        lm = LanguageModel.load(dtype=args.dtype)
        scout = load_scorer(lm, "scout", args.coefficients)
        assert isinstance(scout, ScoutScorer)
        with args.out.open("a", encoding="utf-8") as file:
            for question in tqdm(missing, unit="question"):
                done[question.id] = collect(question, facts[question.id], scout, lm)
                file.write(json.dumps(done[question.id]) + "\n")
                file.flush()
    rows = [done[question.id] for question in questions]
    report([row for row in rows if row["gold"]], args.base)


if __name__ == "__main__":
    main()
