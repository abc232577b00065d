"""Measure the scores of single statements: faithfulness to ablations, and citations of the gold passages.

    $ python research/statements.py nq/dev.jsonl --out runs/citations-nq --known --ablations 0 --dtype bfloat16 \\
          --methods at2 average_attention contribution_learned --limit 100
    $ python research/statements.py hotpotqa/validation.jsonl --out runs/long-qwen --long --model MODEL \\
          --coefficients runs/at2-qwen --dtype bfloat16 --limit 30
    $ python research/statements.py hotpotqa/validation.jsonl --out runs/thoughts-qwen --thoughts --model MODEL \\
          --coefficients runs/thoughts-at2-qwen --dtype bfloat16 --limit 30
    $ python research/statements.py --show runs/citations-nq

For each question the model writes an answer. Each method scores the sources of each of its sentences. Then the
statement's log-odds are measured under random ablations that no method has seen. LDS is the Spearman correlation of
these with the summed scores of the kept sources. The top-k drop is the log-probability that the statement loses without
its k best sources, in nats. Both are also measured for the whole answer, as one more statement. Where the data names
supporting passages, the passages that each statement cites (`Statement.cited`) are compared with them.

The folder research/records holds the records of finished and interrupted runs, without any text of the data sets.

With --known, the data's answer is attributed instead of the model's own. With --long, the question also asks for three
facts, in a sentence each, and answers of one sentence are left out. With --thoughts, it asks for reasoning before the
marker "Answer:", and the sources are the sentences before the marker. A line is written to OUT/questions.jsonl when a
question is done; the same command goes on from there. Intervals are 95 %, by bootstrap over questions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from at2_prune.ablation import random_masks, seeded_generator
from at2_prune.bootstrap import Estimate, bootstrap_difference, bootstrap_mean, bootstrap_ratio
from at2_prune.datasets import Question, load_questions
from at2_prune.errors import AT2PruneError, InputError
from at2_prune.models.drafts import Draft, write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.models.thoughts import thought_prompt
from at2_prune.passages import Passage
from at2_prune.pruning.citations import Statement
from at2_prune.pruning.selection import top_k
from at2_prune.pruning.statements import Answered, Outcomes, answered, score_statements
from at2_prune.scorers import Scorer
from at2_prune.scorers.registry import load_scorer
from at2_prune_eval.faithfulness.ablations import Mask, lds, log_probability, mask_of
from at2_prune_eval.metrics import answer_scores

LONG = "Answer the question below from the documents. Follow the form that the question asks for.\n\n"
FORM = (
    " First state three facts from the documents that help to answer, in one full sentence each. Then give the answer "
    "in a last full sentence."
)
"""The text that --long appends to each question. Before the documents, this request gives answers of one sentence."""
KS = (1, 3)
BATCH = 8
"""The number of answers that are written at once."""


@dataclass(frozen=True)
class Case:
    """One answer, and the prompt whose sources are scored."""

    question: Question
    passages: list[Passage]
    prompt: EncodedPrompt
    answer: Answered
    """The sentences of the answer. The last statement is the whole answer, if it has several sentences."""
    cites_passages: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", metavar="DATA", help="a data set that load_questions reads")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the run")
    parser.add_argument("--show", type=Path, metavar="DIR", help="only print the summary of a run")
    parser.add_argument("--model", metavar="ID_OR_PATH")
    parser.add_argument("--coefficients", metavar="DIR", help="the coefficients of the method at2")
    parser.add_argument("--dtype")
    parser.add_argument("--methods", nargs="+", default=["at2", "average_attention", "surrogate_32"], metavar="METHOD")
    parser.add_argument("--scores-of", type=Path, metavar="DIR", help="measure the scores of an earlier run too")
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--ablations", type=int, default=32, metavar="N", help="of LDS (default: 32); 0 for none")
    parser.add_argument(
        "--tokens", type=int, metavar="N", help="of an answer (default: 48; 200 with --long, --thoughts)"
    )
    parser.add_argument(
        "--passages", type=int, metavar="N", help="keep the gold passages and the first others, N in all"
    )
    parser.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N questions")
    parser.add_argument("--known", action="store_true", help="attribute the known answers, not the model's own")
    parser.add_argument("--long", action="store_true", help="ask for answers of several sentences")
    parser.add_argument("--thoughts", action="store_true", help="attribute answers to the model's own reasoning")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if args.show:
        show(args.show)
        return
    run(args)
    show(args.out)


def run(args: argparse.Namespace) -> None:
    """Measure the questions that the folder does not hold yet."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "questions.jsonl"
    done = {json.loads(line)["id"] for line in path.read_text().splitlines()} if path.exists() else set()
    questions = [one for one in load_questions(args.data, limit=args.limit)[args.offset :] if one.id not in done]
    earlier = recorded(args.scores_of) if args.scores_of else {}
    model = LanguageModel.load(args.model, dtype=args.dtype)
    if args.thoughts:
        model = model.reasoning()
    if args.long:
        model.template = replace(model.template, name="long", instruction=LONG)  # type: ignore[type-var]
    scorers = [load_scorer(model, name, args.coefficients if name == "at2" else None) for name in args.methods]
    for question, draft in drafted(model, questions, args):
        started = time.perf_counter()
        record: dict[str, Any] = {"id": question.id, "left_out": None}
        try:
            case = case_of(model, question, draft, args)
            record |= measured(model, scorers, case, args.ablations, earlier.get(question.id, {}))
        except AT2PruneError as error:
            record["left_out"] = str(error)
        record["seconds"] = time.perf_counter() - started
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        print(
            len(done) + 1,
            question.id,
            record["left_out"] or record["answer"][:70],
            round(record["seconds"]),
            flush=True,
        )
        done.add(question.id)


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the scores and the time of each method of an earlier run, by question id."""
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    found = {one["id"]: one["methods"] for one in map(json.loads, lines) if one["left_out"] is None}
    return {
        name: {key: {"scores": own["scores"], "cpu": own["cpu"]} for key, own in each.items()}
        for name, each in found.items()
    }


def drafted(
    model: LanguageModel, questions: Sequence[Question], args: argparse.Namespace
) -> Iterator[tuple[Question, Draft | None]]:
    """Yield each question, as it is asked, with the answer that the model writes. Answers are written in batches."""
    tokens = args.tokens or (200 if args.long or args.thoughts else 48)
    for start in range(0, len(questions), BATCH):
        batch = [fewer(one, args.passages) if args.passages else one for one in questions[start : start + BATCH]]
        if args.long:
            batch = [replace(one, text=one.text + FORM) for one in batch]
        if args.known:
            yield from ((one, None) for one in batch)
            continue
        prompts = [model.encode(one.text, list(one.passages)) for one in batch]
        yield from zip(batch, write_drafts(model, prompts, max_new_tokens=tokens), strict=True)


def case_of(model: LanguageModel, question: Question, draft: Draft | None, args: argparse.Namespace) -> Case:
    """Cut the model's answer into sentences. Without a draft, the data's answer is one statement."""
    passages = list(question.passages)
    prompt = model.encode(question.text, passages)
    if draft is None:
        known = question.answer or ""
        return Case(question, passages, prompt, answered(model, known, [(0, len(known))]), True)
    if args.thoughts:
        prompt = thought_prompt(model, prompt, draft)
    answer = with_whole(answered(model, draft, "sentence"))
    if args.long and len(answer.parts) == 1:
        raise InputError("the answer is a single sentence")
    return Case(question, passages, prompt, answer, not args.thoughts)


def with_whole(answer: Answered) -> Answered:
    """Add the whole answer as one more statement, if the answer has several."""
    if len(answer.parts) == 1:
        return answer
    whole, tokens = (answer.spans[0][0], answer.spans[-1][1]), (answer.parts[0][0], answer.parts[-1][1])
    return replace(answer, spans=[*answer.spans, whole], parts=[*answer.parts, tokens])


def has_whole(parts: Sequence[tuple[int, int]]) -> bool:
    """Return True if the last statement is the whole answer, after its sentences."""
    return len(parts) > 1 and parts[-1][0] == parts[0][0]


def fewer(question: Question, count: int) -> Question:
    """Return the question with fewer passages: the gold ones and the first others, in their order."""
    others = [i for i in range(len(question.passages)) if i not in question.gold]
    kept = sorted([*question.gold, *others[: max(0, count - len(question.gold))]])
    gold = tuple(kept.index(i) for i in question.gold)
    return replace(question, passages=tuple(question.passages[i] for i in kept), gold=gold)


def masks_of_lds(count: int, ablations: int, name: str) -> list[Mask]:
    """Return the ablations over which LDS is measured: all of them if there are no more than `ablations`."""
    if 2**count <= ablations:
        return list(itertools.product((False, True), repeat=count))
    masks = random_masks(count, ablations, seeded_generator(0, f"held out {name}"))
    return [tuple(mask) for mask in masks.tolist()]


def measured(
    model: LanguageModel, scorers: Sequence[Scorer], case: Case, ablations: int, earlier: dict[str, Any]
) -> dict[str, Any]:
    """Score every statement with every method, and measure these scores and those of an earlier run."""
    question, prompt, answer = case.question, case.prompt, case.answer
    count = len(prompt.sources)
    seen = Outcomes(model, prompt, answer)
    task = question.text, case.passages, prompt
    scores, seconds = {}, {}
    for scorer in scorers:
        started = time.process_time()
        scores[scorer.name] = score_statements(scorer, model, task, answer, seen)
        seconds[scorer.name] = time.process_time() - started
    for name, own in earlier.items():
        if [len(one) for one in own["scores"]] != [count] * len(answer.parts):
            raise InputError(f"the earlier scores of {name} belong to other sources or statements")
        scores[name], seconds[name] = own["scores"], own["cpu"]
    held_out = masks_of_lds(count, ablations, question.text)
    without = {
        (name, i, k): mask_of(count, top_k(own, k), keep=False)
        for name, each in scores.items()
        for i, own in enumerate(each)
        for k in KS
    }
    everything = mask_of(count, range(count))
    masks = list(dict.fromkeys([everything, *held_out, *without.values()]))
    methods: dict[str, Any] = {name: {"scores": each, "cpu": seconds[name]} for name, each in scores.items()}
    log_odds: list[dict[Mask, float]] = []
    if ablations:
        found = seen(torch.tensor(masks))  # (ablations, statements)
        log_odds = [dict(zip(masks, found[:, i].tolist(), strict=True)) for i in range(len(answer.parts))]
    for name, each in scores.items() if ablations else ():
        drops = {
            str(k): [
                log_probability(log_odds[i][everything]) - log_probability(log_odds[i][without[name, i, k]])
                for i in range(len(each))
            ]
            for k in KS
        }
        ranks = [lds(own, held_out, log_odds[i]) for i, own in enumerate(each)]
        methods[name] |= {"lds": ranks, "drop": drops}
    gold = list(question.gold) if case.cites_passages else []
    accepted = [one for one in (question.answer, *question.aliases) if one]
    return {
        "answer": answer.text,
        "statements": [answer.text[a:b] for a, b in answer.spans],
        "tokens": [b - a for a, b in answer.parts],
        "whole": has_whole(answer.parts),
        "sources": count,
        "gold": gold,
        "f1": answer_scores(answer.text, accepted).f1 if accepted else None,
        "methods": methods,
    }


def show(folder: Path) -> None:
    """Print the summary of a run."""
    every = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    records = [one for one in every if one["left_out"] is None]
    wholes = [one.get("whole", False) for one in records]
    count = sum(len(one["statements"]) for one in records) - sum(wholes)
    print(f"\n{len(records)} questions, {count} statements, {len(every) - len(records)} questions left out")
    print(f"median seconds a question: {sorted(one['seconds'] for one in every)[len(every) // 2]:.0f}")
    names = list(records[0]["methods"])
    first: dict[tuple[str, str], Any] = {}
    for name in names:
        print(f"\n{name}")
        own = [one["methods"][name] for one in records]
        if "cpu" in own[0]:
            seconds = sum(one["cpu"] for one in own) / len(own)
            print(f"  CPU seconds                  {seconds:.1f} (mean of a question)")
        for title, measure, values in _faithfulness(own, wholes) if "lds" in own[0] else ():
            base = first.setdefault((title, measure), values)
            less = "" if base is values else f"   less {names[0]}: {_paired(values, base)}"
            print(f"  {measure + ', ' + title:28} {_pooled(values)}{less}")
        right = [one for one in records if (one["f1"] or 0) >= 0.5]
        groups = [("all answers", records), ("right answers", right)]
        for label, some in groups if len(right) < len(records) else groups[:1]:
            for title, each in _citations(some, name):
                base = first.setdefault((title, label), each)
                less = "" if base is each else f"   less {names[0]}: {bootstrap_difference(each, base)}"
                print(f"  {title:28} {bootstrap_mean(each)}{less}  ({label}, N = {len(some)})")


def _faithfulness(
    own: Sequence[dict[str, Any]], wholes: Sequence[bool]
) -> Iterator[tuple[str, str, list[list[float]]]]:
    """Yield LDS and the top-k drops of single statements, then of whole answers: a list for each question."""
    for title, part in (("a statement", _sentences), ("the whole answer", _whole)):
        yield title, "LDS", [part(one["lds"], whole) for one, whole in zip(own, wholes, strict=True)]
        for k in KS:
            drops = [part(one["drop"][str(k)], whole) for one, whole in zip(own, wholes, strict=True)]
            yield title, f"top-{k} drop", drops


def _sentences(values: list[float | None], whole: bool) -> list[float]:
    """Return the values of the sentences, without that of the whole answer. LDS of equal outcomes is undefined."""
    return [x for x in (values[:-1] if whole else values) if x is not None]


def _whole(values: list[float | None], whole: bool) -> list[float]:
    """Return the value of the whole answer. An answer of one sentence has one value for both."""
    return [x for x in values[-1:] if x is not None]


def _pooled(values: list[list[float]]) -> Estimate:
    """Estimate the mean over all statements, with questions resampled."""
    return bootstrap_ratio([sum(some) for some in values], [len(some) for some in values])


def _paired(values: list[list[float]], base: list[list[float]]) -> Estimate:
    """Estimate the difference of two means over statements, with questions resampled."""
    pairs = [(sum(a) - sum(b), len(a)) for a, b in zip(values, base, strict=True) if len(a) == len(b)]
    return bootstrap_ratio([total for total, _ in pairs], [count for _, count in pairs])


def _citations(records: Sequence[dict[str, Any]], method: str) -> Iterator[tuple[str, list[float]]]:
    """Yield the precision and recall of the gold passages among those that an answer cites, for each question."""
    rows = []
    for record in records:
        if not record["gold"]:
            continue
        scores = record["methods"][method]["scores"]
        sentences = scores[:-1] if record.get("whole") else scores
        statements = [Statement("", 0, 0, some) for some in sentences]
        cited = {source for statement in statements for source in statement.cited()}
        first = {source for statement in statements for source in statement.cited(most=1)}
        gold = set(record["gold"])
        rows.append(
            (len(cited & gold) / max(1, len(cited)), len(cited & gold) / len(gold), len(first & gold) / len(gold))
        )
    if rows:
        names = ("citation precision", "citation recall", "recall of the best")
        yield from zip(names, map(list, zip(*rows, strict=True)), strict=True)


if __name__ == "__main__":
    main()
