"""Compare the answers of two methods on the questions of which both keep all evidence, and differ in the rest.

    $ cp -r research/records/second-halves runs/halves
    $ at2-prune study research/second_halves.yaml --out runs/halves --stage rank    # writes the questions again
    $ python research/third_passage.py runs/halves --k 3 --methods scout bge

If two methods keep the same evidence, answers can differ only by the other passages that they keep. The folder is that
of a study. Differences are paired, and a question's value is the mean over the readers. Intervals are 95 %, by
bootstrap over questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from at2_prune.bootstrap import bootstrap_mean
from at2_prune_eval.metrics import answer_scores
from at2_prune_eval.study.folder import StudyFolder
from at2_prune_eval.study.lines import read_lines
from at2_prune_eval.study.settings import load_study

STUDY = Path(__file__).parent / "second_halves.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DIR", help="the folder of the study")
    parser.add_argument("--study", type=Path, default=STUDY, metavar="FILE", help="the study's YAML file")
    parser.add_argument("--methods", nargs=2, default=["scout", "bge"], metavar="METHOD")
    parser.add_argument("--k", type=int, default=3)
    args = parser.parse_args()
    folder = StudyFolder(args.out, load_study(args.study), str(args.study))
    first, second = args.methods
    if own := [name for name in args.methods if folder.study.methods[name].of_reader]:
        parser.error(f"the readers keep different passages by {own[0]}")
    print(f"F1 of {first} less that of {second}, k = {args.k}, mean over {', '.join(folder.study.readers)}")
    for data in folder.study.data:
        questions = folder.questions(data)
        rankings = [folder.rankings(name, data, questions, reader="") for name in args.methods]
        answers = {
            reader: {
                (record["id"], tuple(record["kept"])): record["answer"]
                for record in read_lines(folder.answers_file(reader, data), ("id", "kept", "answer")).records
            }
            for reader in folder.study.readers
        }
        found: dict[str, list[float]] = {}
        for one in questions:
            kept = [tuple(sorted(ranked[one.id]["ranking"][: args.k])) for ranked in rankings]
            whole = [set(one.gold) <= set(some) for some in kept]
            pairs = [[answer_scores(own[one.id, some], one.answers).f1 for some in kept] for own in answers.values()]
            group = {
                (True, True): "all evidence in both",
                (True, False): f"only in {first}",
                (False, True): f"only in {second}",
                (False, False): "in neither",
            }[whole[0], whole[1]]
            if kept[0] == kept[1]:
                group += ", same passages"
            found.setdefault(group, []).append(sum(a - b for a, b in pairs) / len(pairs))
        for group, values in sorted(found.items()):
            print(f"{data:9} {group:36} {len(values):4} questions  {bootstrap_mean(values)}")


if __name__ == "__main__":
    main()
