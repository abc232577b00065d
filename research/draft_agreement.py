"""Compare answers from a method's best passages with the answer from all passages, by F1.

    $ python research/draft_agreement.py research/records/surrogate

The folder has the files of a study on HotpotQA: rankings by the reader itself, and answers from all passages and from
the best of each method.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from at2_prune.bootstrap import bootstrap_mean
from at2_prune_eval.metrics import answer_scores
from at2_prune_eval.study.lines import read_lines

METHODS = ("at2", "surrogate_32", "average_attention")
DATA = "hotpotqa"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    for reader in ("gemma", "qwen"):
        records = read_lines(folder / "answers" / f"{reader}.{DATA}.jsonl").records
        answers = {(one["id"], tuple(one["kept"])): one["answer"] for one in records}
        print(f"{reader}\n{'k':4}{'AT2':24}{'ESM-32':24}{'average attention':24}ESM-32 minus AT2")
        for k in (1, 2, 3):
            found = {name: agreement(folder, answers, f"{name}.{reader}", k) for name in METHODS}
            more = [esm - at2 for esm, at2 in zip(found["surrogate_32"], found["at2"], strict=True)]
            print(f"{k:<4}" + "".join(f"{bootstrap_mean(each)!s:24}" for each in [*found.values(), more]).rstrip())


def agreement(folder: Path, answers: dict[tuple[str, tuple[int, ...]], str], name: str, k: int) -> list[float]:
    """Return, for each question, the F1 of the answer from the k best against the answer from all passages."""
    found = []
    for one in read_lines(folder / "rankings" / f"{name}.{DATA}.jsonl").records:
        whole = answers[one["id"], tuple(range(len(one["ranking"])))]
        found.append(answer_scores(answers[one["id"], tuple(sorted(one["ranking"][:k]))], [whole]).f1)
    return found


if __name__ == "__main__":
    main()
