"""Compare answers from passages that a sentence pruner shortened with answers from the best k whole passages.

    $ python research/sentence_pruner.py naver/provence-reranker-debertav3-v1 hotpotqa/validation.jsonl --offset 100 \\
          --out runs/provence.jsonl --trust-remote-code
    $ python research/sentence_pruner.py hotchpotch/open-provence-reranker-xsmall-v1 nq/dev.jsonl --offset 100 \\
          --reader models/Qwen2.5-Coder-1.5B-Instruct --out runs/open-provence.jsonl --trust-remote-code

Provence (arXiv 2501.16214) and its kind remove the sentences of a passage that do not help with the question, and give
the passage a score. Such a model brings its own code, which `--trust-remote-code` allows transformers to run. The
model's card names the packages that the code needs. The model needs a method `process(question, context, threshold)`
whose result has `pruned_context` and `reranking_score`.

The reader answers from all passages, from all shortened passages, from the shortened ones among the k with the largest
scores, and from the k best whole passages by scout. Every question is written to the file of `--out` when it is
answered, so the same command goes on from there. A file with other settings is refused. Intervals are 95 %, by
bootstrap over questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import AutoModel

from at2_prune import AT2Pruner
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.datasets import Question, load_questions
from at2_prune.errors import AT2PruneError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.loop import PruningLoop
from at2_prune.pruning.selection import top_k
from at2_prune_eval.metrics import answer_scores
from at2_prune_eval.study.lines import adding, read_lines
from at2_prune_eval.study.models import describe_device, describe_model


def load_sentence_pruner(name: str, trusted: bool) -> Any:
    """Load a sentence pruner from the Hub or a folder.

    Raises:
        InputError: the model cannot be loaded, its code may not run, or it has no method `process`.
    """
    try:
        model = AutoModel.from_pretrained(name, trust_remote_code=trusted)
    except (OSError, ValueError, ImportError) as error:
        hint = "" if trusted else "; with --trust-remote-code, the model's own code may run"
        raise InputError(f"cannot load the sentence pruner {name}: {str(error).splitlines()[0]}{hint}") from error
    if not hasattr(model, "process"):
        raise InputError(f"{name} has no method process(question, context), so it is no sentence pruner")
    return model.eval()


def shortened(model: Any, question: Question, threshold: float) -> tuple[list[str], list[float]]:
    """Return what the sentence pruner leaves of each passage, and each passage's score.

    A title is the first sentence of the text that the sentence pruner reads.
    """
    texts, scores = [], []
    for passage in question.passages:
        context = f"{passage.title}. {passage.text}" if passage.title else passage.text
        found = model.process(question.text, context, threshold=threshold)
        texts.append(str(found["pruned_context"]).strip())
        scores.append(float(found["reranking_score"]))
    return texts, scores


def sets(
    model: Any, scout: AT2Pruner, question: Question, ks: Sequence[int], threshold: float
) -> dict[str, list[Passage]]:
    """Return the passages that the reader sees, by the name of the way they were chosen."""
    texts, scores = shortened(model, question, threshold)
    first = top_k(scores, 1)[0]
    texts[first] = texts[first] or question.passages[first].text  # a reader needs at least one passage
    found = {"all": list(question.passages), "shortened": [Passage(text) for text in texts if text]}
    ranking = scout.score(question.text, question.passages)
    for k in ks:
        found[f"shortened, best {k}"] = [Passage(texts[index]) for index in top_k(scores, k) if texts[index]]
        found[f"scout, best {k}"] = [question.passages[index] for index in top_k(ranking, k)]
    return found


def answered(loop: PruningLoop, question: Question, shown: dict[str, list[Passage]]) -> dict[str, list[float]]:
    """Return the F1 of the answer from each list of passages, and the number of tokens that the reader read."""
    truths = [question.answer or "", *question.aliases]
    found = {}
    for name, passages in shown.items():
        prompt = loop.reader.encode(question.text, passages)
        draft = loop.write_drafts([prompt])[0]
        found[name] = [answer_scores(draft.text, truths).f1, len(prompt)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="ID_OR_FOLDER", help="the sentence pruner")
    parser.add_argument("data", help="a file of questions")
    parser.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N questions")
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--reader", metavar="MODEL", help="the model that answers (default: the embedded model)")
    parser.add_argument("--dtype", default="bfloat16", help="the reader's precision")
    parser.add_argument("--k", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--threshold", type=float, default=0.1, help="keep sentences with at least this probability")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the model")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    try:
        model = load_sentence_pruner(args.model, args.trust_remote_code)
        questions = load_questions(args.data, offset=args.offset, limit=args.limit, require=["answer"])
        scout = AT2Pruner.from_pretrained()
        loop = PruningLoop(LanguageModel.load(args.reader, dtype=args.dtype))
    except AT2PruneError as error:
        parser.error(str(error))
    about = {
        "sentence_pruner": args.model,
        "threshold": args.threshold,
        "k": args.k,
        "data": Path(args.data).name,
        "reader": describe_model(loop.reader),
    }
    try:
        with adding(args.out, about, {"device": describe_device(loop.reader.device)}) as add:
            known = {record["id"]: record["values"] for record in read_lines(args.out, ("id", "values")).records}
            for question in tqdm([one for one in questions if one.id not in known]):
                shown = sets(model, scout, question, args.k, args.threshold)
                known[question.id] = answered(loop, question, shown)
                add([{"id": question.id, "values": known[question.id]}])
    except AT2PruneError as error:
        parser.error(str(error))
    show([known[question.id] for question in questions])


def show(rows: Sequence[dict[str, list[float]]]) -> None:
    """Print the F1 and the tokens of each way, and the paired difference in F1 to all passages."""
    print(f"questions: {len(rows)}")
    print(f"{'passages':<20}{'answer F1':<22}{'tokens read':>12}   F1 minus all")
    whole = [row["all"][0] for row in rows]
    for name in rows[0]:
        f1, tokens = [row[name][0] for row in rows], [row[name][1] for row in rows]
        less = "" if name == "all" else str(bootstrap_difference(f1, whole))
        print(f"{name:<20}{bootstrap_mean(f1)!s:<22}{sum(tokens) / len(tokens):>12,.0f}   {less}")


if __name__ == "__main__":
    main()
