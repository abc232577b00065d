"""The command line of the examples. It answers one question, or measures F1 with pruning off and on."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from offline import RETRIEVED, Corpus
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from at2_prune import AT2Pruner, LanguageModel, PruneConfig, Question
from at2_prune.bootstrap import Estimate, bootstrap_mean
from at2_prune.errors import AT2PruneError
from at2_prune_eval.metrics import answer_scores
from at2_prune_eval.run.store import RunStore


@dataclass(frozen=True)
class Answer:
    """The answer of a pipeline."""

    text: str
    passages: list[str]
    """The ids of the passages that the answer was written from."""


Ask = Callable[[str], Answer]
"""A pipeline, as a function that answers a question."""
Build = Callable[[str, Corpus, AT2Pruner], Callable[[PruneConfig], Ask]]


def main(framework: str, build: Build) -> None:
    """Run the command line of an example.

    Args:
        framework: the name of the framework.
        build: takes an index (`bm25` or `vectors`), a corpus and a pruner, and returns a function that makes a pipeline
            from a config.
    """
    parser = argparse.ArgumentParser(description=f"Retrieve, prune and answer with {framework}.")
    parser.add_argument("question", nargs="?", help="the question (default: the first question of the data)")
    parser.add_argument(
        "--questions", type=int, metavar="N", help="ask N questions with pruning off and on, and print F1"
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of questions and bootstrap (default: 0)")
    parser.add_argument("--out", metavar="DIR", help="the folder for answers; a run given again continues from them")
    parser.add_argument("--index", choices=["bm25", "vectors"], default="bm25", help="the index (default: bm25)")
    parser.add_argument(
        "--data",
        metavar="FILE",
        action="append",
        help="questions with passages; repeat the option for a larger corpus; the first file has the questions to ask "
        "(default: HotpotQA in the folder AT2_PRUNE_DATA if that is set, else the questions that come with at2-prune)",
    )
    parser.add_argument("--config", metavar="FILE", help="a PruneConfig in YAML, JSON or TOML; AT2_PRUNE… overrides it")
    args = parser.parse_args()
    try:
        _run(framework, build, args)
    except AT2PruneError as error:
        parser.error(str(error))


def _run(framework: str, build: Build, args: argparse.Namespace) -> None:
    config = PruneConfig.load(args.config)
    corpus = Corpus.load(args.data or ())
    transformers_logging.disable_progress_bar()
    model = LanguageModel.load(config.model, device=config.device, dtype=config.dtype)
    pruner = AT2Pruner.from_pretrained(
        model, config.coefficients, method=config.method, cross_encoder=config.cross_encoder
    )
    pipeline = build(args.index, corpus, pruner)
    if not args.questions:
        question = args.question or corpus.questions[0].text
        print(f"{question} {pipeline(config)(question).text}")
        return
    questions = list(corpus.questions)
    random.Random(args.seed).shuffle(questions)
    questions = questions[: args.questions]
    dtype = str(model.model.dtype).removeprefix("torch.")
    settings = {**config.to_dict(), "enabled": None, "model": model.name, "dtype": dtype, "method": pruner.scorer.name}
    run = {"framework": framework, "index": args.index, "data": args.data, "seed": args.seed, "config": settings}
    states = {"off": False, "on": True}
    if os.environ.get("AT2_PRUNE"):
        states = {state: enabled for state, enabled in states.items() if enabled == config.enabled}
    pipelines = {state: pipeline(replace(config, enabled=enabled)) for state, enabled in states.items()}
    rows = _ask(pipelines, questions, corpus, RunStore(args.out, run) if args.out else None)
    print(
        f"{framework}: {len(questions)} questions (seed {args.seed}), {RETRIEVED} of {len(corpus.passages)} passages "
        f"by {args.index}; {model.name} in {dtype}, {pruner.scorer.name}, top_n {config.top_n}"
    )
    print("pruning  F1                       gold passages among those answered from")
    for state in states:
        f1, gold = (bootstrap_mean([row[state][name] for row in rows], seed=args.seed) for name in ("f1", "gold"))
        print(f"{state:7}  {f1}     {gold}")
    if len(states) == 2:
        gains = [bootstrap_mean([r["on"][n] - r["off"][n] for r in rows], seed=args.seed) for n in ("f1", "gold")]
        print(f"on - off {_signed(gains[0])}  {_signed(gains[1])}")


def _ask(
    pipelines: dict[str, Ask], questions: Sequence[Question], corpus: Corpus, store: RunStore | None
) -> list[dict[str, dict[str, Any]]]:
    """Ask all questions with every pipeline.

    Returns:
        For each question and state (`off`, `on`) the answer, its F1 and the share of gold passages in its prompt.
    """
    known = store.load() if store else {}
    rows = []
    bar = tqdm(questions, unit="question", file=sys.stderr, disable=None)
    for question in bar:
        row = {}
        for state, ask in pipelines.items():
            record = known.get(f"{question.id} {state}")
            if record is None:
                answer = ask(question.text)
                gold = corpus.gold(question)
                record = {
                    "id": f"{question.id} {state}",
                    "question": question.text,
                    "truth": question.answer,
                    "answer": answer.text,
                    "passages": answer.passages,
                    "f1": answer_scores(answer.text, question.answer or "").f1,
                    "gold": len(gold.intersection(answer.passages)) / max(1, len(gold)),
                }
                if store:
                    store.add(record)
            row[state] = record
        rows.append(row)
        bar.set_postfix({f"F1 {state}": f"{sum(r[state]['f1'] for r in rows) / len(rows):.3f}" for state in pipelines})
    return rows


def _signed(estimate: Estimate) -> str:
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
