"""The command `at2-prune demo`, which prunes the passages of the sample questions."""

from __future__ import annotations

import argparse

from at2_prune.cli.options import (
    K_DEFAULT,
    K_HELP,
    add_method_options,
    add_model_options,
    k_or_auto,
    load_pruner,
)

HELP = "Prune the sample questions: show one question in full, and the F1 of every question before and after pruning."
EXAMPLES = """examples:
  at2-prune demo
  at2-prune demo --k 2 --model Qwen/Qwen3-0.6B --coefficients qwen3/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k", type=k_or_auto, default=K_DEFAULT, metavar="N", help=K_HELP)
    add_method_options(parser)
    add_model_options(parser, reader=True)


def run(args: argparse.Namespace) -> None:
    from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
    from at2_prune.datasets import load_questions, sample_questions_path
    from at2_prune.report import terminal_report
    from at2_prune_eval.metrics import answer_scores, gold_recall

    questions = load_questions(sample_questions_path())
    pruner = load_pruner(args)
    model = pruner.language_model.name
    models = f"model {model}, reader {pruner.reader.name}" if pruner.loop.two_models else f"model {model}"
    print(f"{models}, {len(questions)} questions with ten passages each, k = {args.k}\n")
    before: list[float] = []
    after: list[float] = []
    recall: list[float] = []
    for question in questions:
        result = pruner.answer(question.text, question.passages, args.k)
        if not before:
            print(terminal_report(result) + "\n")
            print(f"{'F1 before':>9}  {'after':>5}  gold kept  true answer → from all passages → from kept passages")
        assert question.answer is not None
        unpruned = pruner.answer_from(question.text, question.passages) if result.draft is None else result.draft
        before.append(answer_scores(unpruned, question.answer).f1)
        after.append(answer_scores(result.answer, question.answer).f1)
        recall.append(gold_recall(result.kept, question.gold))
        print(
            f"{before[-1]:9.2f}  {after[-1]:5.2f}  {recall[-1]:9.1f}  {question.answer} → {unpruned[:40]} → "
            f"{result.answer[:40]}",
            flush=True,
        )
    gain = bootstrap_difference(after, before)
    print(f"\nF1 before pruning  {bootstrap_mean(before)}")
    print(f"F1 after pruning   {bootstrap_mean(after)}   (95 % intervals over {len(questions)} questions)")
    print(f"difference         {gain}   recall of the two gold passages {sum(recall) / len(recall):.2f}")
    if gain.low <= 0 <= gain.high:
        print("0 is inside the interval of the difference. A dozen questions are too few to show a gain.")
