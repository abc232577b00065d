"""Compare answers from as many passages as a wanted recall needs with answers from a fixed number of passages.

    $ python research/kept_answers.py hotpotqa/validation.jsonl --skip 100 --keep "recall>=0.9" --k 3 --out kept.jsonl

Scout ranks the passages, and the embedded model answers. Every question is written to the file when it is answered, so
an interrupted run goes on from there. Intervals are 95 %, by bootstrap over questions.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tqdm.auto import tqdm

from at2_prune import AT2Pruner, load_questions
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.pruning.certainty import Bounds
from at2_prune_eval.metrics import answer_scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N questions")
    parser.add_argument("--keep", default="recall>=0.9")
    parser.add_argument("--k", type=int, default=3, help="the fixed number of passages")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    pruner = AT2Pruner.from_pretrained()
    known = {row["id"]: row for row in map(json.loads, args.out.read_text().splitlines())} if args.out.exists() else {}
    rows = []
    with args.out.open("a") as file:
        for question in tqdm(load_questions(args.data)[args.skip :]):
            if question.id not in known:
                row: dict[str, object] = {"id": question.id}
                every = len(question.passages)
                for name, k, bounds in (("keep", every, Bounds(keep=args.keep)), ("fixed", args.k, None)):
                    result = pruner.answer(question.text, question.passages, k, None, bounds)
                    scores = answer_scores(result.answer, question.answer or "")
                    row[name] = [scores.f1, len(result.kept)]
                known[question.id] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
            rows.append(known[question.id])
    kept, fixed = ([row[name][0] for row in rows] for name in ("keep", "fixed"))  # type: ignore[index]
    print(f"{len(rows)} questions of {args.data}")
    print(f"{args.keep}: F1 {bootstrap_mean(kept)}, kept {bootstrap_mean([float(row['keep'][1]) for row in rows])}")  # type: ignore[index]
    print(f"k={args.k}: F1 {bootstrap_mean(fixed)}; difference {bootstrap_difference(kept, fixed)}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
