"""Let each reader of a study order the passages itself, by methods that read its own draft.

    $ python research/reader_rankings.py gemma/nq --out runs/reader-rankings
    $ python research/reader_rankings.py qwen/hotpotqa --out runs/reader-rankings --methods surrogate_32 --limit 40

Drafts are written in batches, and all methods read the same draft. In use, a draft is written for each question, so
the time of a ranking is not recorded. A study takes the files as the rankings of a method, with
`file: .../METHOD.{reader}.{data}.jsonl`. The same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.loop import PruningLoop
from at2_prune.pruning.selection import top_k
from at2_prune.scorers import Scorer, Task
from at2_prune.scorers.registry import load_scorer
from at2_prune_eval.loop.identity import describe_scorer
from at2_prune_eval.study.folder import load_data
from at2_prune_eval.study.lines import adding, read_lines
from at2_prune_eval.study.models import describe_device, describe_model, load_language_model
from at2_prune_eval.study.settings import load_study

STUDY = Path(__file__).parent / "second_halves.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", metavar="READER/DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--study", type=Path, default=STUDY, metavar="YAML", help="names the readers and the data")
    parser.add_argument("--methods", nargs="+", default=["at2", "average_attention"], metavar="METHOD")
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    args = parser.parse_args()
    study = load_study(args.study)
    reader, data = args.part.split("/")
    files = {name: args.out / f"{name}.{reader}.{data}.jsonl" for name in args.methods}
    done = {name: {one["id"] for one in read_lines(file, ("id", "ranking")).records} for name, file in files.items()}
    questions = load_data(study, data)[: args.limit]
    waiting = [one for one in questions if any(one.id not in done[name] for name in files)]
    waiting.sort(key=lambda one: -sum(len(passage.text) for passage in one.passages))  # so that little is padded
    if not waiting:
        return
    model = load_language_model(study.readers[reader], f"reader {reader}")
    scorers = {name: load_scorer(model, name) for name in args.methods}
    about = {"reader": reader, "data": data, "scorer": describe_model(model), "max_new_tokens": study.max_new_tokens}
    where = {"device": describe_device(model.device), "batch_size": args.batch_size}
    with ExitStack() as stack:
        add = {}
        for name, file in files.items():
            own = {"method": name, **about, "settings": describe_scorer(scorers[name])}
            add[name] = stack.enter_context(adding(file, own, where))
        for start in range(0, len(waiting), args.batch_size):
            started = time.perf_counter()
            batch = waiting[start : start + args.batch_size]
            found = rankings(PruningLoop(model, study.max_new_tokens), scorers, batch)
            for name, records in found.items():
                add[name](record for record in records if record["id"] not in done[name])
            seconds = (time.perf_counter() - started) / len(batch)
            print(f"{args.part}: {start + len(batch)} of {len(waiting)}, {seconds:.1f} s a question", flush=True)


def rankings(
    loop: PruningLoop, scorers: Mapping[str, Scorer], questions: Sequence[Question]
) -> dict[str, list[dict[str, Any]]]:
    """Order the passages of each question by every method. With an empty draft, the passages keep their order."""
    model: LanguageModel = loop.language_model
    prompts = [model.encode(one.text, list(one.passages)) for one in questions]
    groups = list(dict.fromkeys(group for scorer in scorers.values() for group in scorer.row_groups))
    drafts = loop.write_drafts(prompts, groups)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in scorers}
    for question, prompt, draft in zip(questions, prompts, drafts, strict=True):
        task = Task(model, question.text, list(question.passages), prompt, draft)
        for name, scorer in scorers.items():
            scored = loop.score(scorer, task)
            record = {"id": question.id, "ranking": top_k(scored.scores, len(scored.scores), "score")}
            found[name].append(record if scored.error is None else record | {"fallback": str(scored.error)})
    return found


if __name__ == "__main__":
    main()
