"""Compare scout's recall of evidence with keys and queries that are kept in float32, in 8 bits and in 4 bits.

    $ python research/kept_bits.py hotpotqa/validation.jsonl nq/dev.jsonl --skip 100 100

Every passage is read once, in float32, and then kept in each precision. The differences to `int8` are paired, with 95 %
intervals by bootstrap over questions; pooled ones resample questions within their data set.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace

import torch

from at2_prune import AT2Pruner, LanguageModel, load_questions
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean, bootstrap_pooled
from at2_prune.coefficients.loading import load_coefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.datasets import Question
from at2_prune.passage_index.index import PassageIndex
from at2_prune.passage_index.records import Bits, PieceRecord, Vectors
from at2_prune.passage_index.stores import MemoryStore
from at2_prune.scorers.scout import ScoutScorer
from at2_prune.training.choices import recall_at

KS = (1, 2, 3, 4)
WAYS: dict[str, tuple[Bits, Bits, Bits]] = {
    "float32": (32, 32, 32),
    "int8": (8, 8, 8),
    "int4": (4, 8, 4),
    "all in 4 bits": (4, 4, 4),
}
"""The bits of keys without links, of keys of link layers, and of queries. `int4` is the default of the index."""


class Kept(ScoutScorer):
    """Scout over an index whose records are kept in another way."""

    def __init__(self, coefficients: ScoutCoefficients, index: PassageIndex, way: tuple[Bits, Bits, Bits]) -> None:
        super().__init__(coefficients)
        self.way = way
        self.changed = copy.copy(index)
        self.changed.records = lambda passages: map(self._kept, index.records(passages))  # type: ignore[method-assign]

    def index(self, language_model: LanguageModel) -> PassageIndex:
        return self.changed

    def _kept(self, records: list[PieceRecord]) -> list[PieceRecord]:
        plain, linked, rows = self.way
        return [
            replace(
                one,
                keys={k: Vectors.keep(v.values, linked if k in one.rows else plain) for k, v in one.keys.items()},
                rows={layer: Vectors.keep(vectors.values, rows) for layer, vectors in one.rows.items()},
            )
            for one in records
        ]


def recalls(pruners: dict[str, AT2Pruner], question: Question) -> dict[str, list[float]]:
    gold = torch.tensor([i in question.gold for i in range(len(question.passages))])
    scores = {name: torch.tensor(one.score(question.text, question.passages)) for name, one in pruners.items()}
    return {name: [recall_at(some, gold, k) for k in KS] for name, some in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="questions with supporting passages")
    parser.add_argument("--skip", nargs="+", type=int, default=[0], metavar="N", help="leave out the first N of each")
    parser.add_argument("--limit", nargs="+", type=int, metavar="N", help="use N questions of each (default: all)")
    args = parser.parse_args()
    model = LanguageModel.load()
    coefficients = load_coefficients(model, None, "scout")
    assert isinstance(coefficients, ScoutCoefficients)
    index = PassageIndex(model, coefficients.layers, coefficients.link_layers, "float32", MemoryStore())
    pruners = {name: AT2Pruner(model, Kept(coefficients, index, way)) for name, way in WAYS.items()}
    by_data = {}
    for place, source in enumerate(args.data):
        questions = load_questions(source)[args.skip[min(place, len(args.skip) - 1)] :]
        if args.limit:
            questions = questions[: args.limit[min(place, len(args.limit) - 1)]]
        by_data[source] = [recalls(pruners, question) for question in questions]
        print(f"{source}: {len(questions)} questions", flush=True)
        for name in WAYS:
            cells = []
            for i, k in enumerate(KS):
                values = [one[name][i] for one in by_data[source]]
                less = bootstrap_difference(values, [one["int8"][i] for one in by_data[source]])
                cells.append(f"@{k} {bootstrap_mean(values).mean:.3f}" + ("" if name == "int8" else f" ({less})"))
            print(f"  {name:<16}{'  '.join(cells)}", flush=True)
    print("pooled, less int8")
    for name in WAYS:
        cells = []
        for i, k in enumerate(KS):
            paired = [[one[name][i] - one["int8"][i] for one in some] for some in by_data.values()]
            cells.append(f"@{k} {bootstrap_pooled(paired)}")
        print(f"  {name:<16}{'  '.join(cells)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
