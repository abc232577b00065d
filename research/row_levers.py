"""Measure levers of scout that need the model's vectors again, on a part of the questions; cross-validated.

    $ at2-prune train-scout --data hotpotqa/train.jsonl hotpotqa/validation.jsonl nq/dev.jsonl musique/dev.jsonl \\
          --limit 300 100 100 25 --holdout 0 --out runs/side
    $ python research/row_levers.py runs/side --data hotpotqa/validation.jsonl nq/dev.jsonl musique/dev.jsonl

The first lever is a column of pairs, see `row_columns`. The second is a bilinear form on the queries and keys of the
last layer. The logit of a question's row q and a key k of a passage becomes q . k + (U q) . (V k). Each head has a U
and a V of rank 4. They are learned by Adam from the loss of scout's first choice, with its coefficients fixed. Then the
features of all questions are computed with these logits, and all coefficients are fitted to them as usual. There is a
line for each number of epochs in `EPOCHS`. Folds and intervals are those of `side_levers.py`. The vectors are kept in
the folder `rows` of the run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from side_levers import FOLDS, LEVERS, Values, case, measured, report
from side_models import BALANCE, Case, Fitted, Lever, Model
from torch import Tensor

from at2_prune import load_questions
from at2_prune.attention.weights import scaled_logits
from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.features import QUESTION, Sums, best_units, question_features, question_sums
from at2_prune.passage_index.index import PassageIndex
from at2_prune.passage_index.sources import source_units
from at2_prune.passage_index.stores import MemoryStore
from at2_prune.training import ExampleStore

RANK, BATCH, RATE = 4, 16, 1e-3
EPOCHS = (1, 3, 6)


@dataclass(frozen=True)
class Read:
    """A question with the vectors of its last layer."""

    case: Case
    features: Tensor
    """The question's features, `(6, layers, heads, passages)`."""
    rows: Tensor
    """`(heads, rows, width)`."""
    own: Tensor
    """The log-sum of the question's own tokens, `(1, heads, rows)`."""
    keys: Tensor
    """`(key/value heads, tokens, width)`, of all passages."""
    tokens: list[int]
    leads: list[int]
    """The numbers of tokens and of title tokens of each passage."""

    def columns(self, u: Tensor, v: Tensor) -> Tensor:
        """Return scout's columns, those of the last layer with the form u, v `(heads, width, 4)`."""
        bent = self.rows.float() + (self.rows.float() @ u) @ v.transpose(1, 2)
        parts = scaled_logits(bent, self.keys.float()).split(self.tokens, -1)
        units = torch.stack([part.logsumexp(-1) for part in parts], -1)[None]
        titles = [part[..., :lead].logsumexp(-1) for part, lead in zip(parts, self.leads, strict=True)]
        sums = Sums(units, torch.stack(titles, -1)[None], self.own, torch.tensor(self.tokens, dtype=torch.float32))
        return torch.cat([self.features[:, :-1], question_features(sums)], 1).flatten(0, 2).T

    @torch.no_grad()
    def changed(self, u: Tensor, v: Tensor) -> Case:
        return replace(self.case, own={"scout": self.columns(u, v)})


def forms(data: Sequence[Sequence[Read]], first: Model) -> Iterator[tuple[Tensor, Tensor]]:
    """Learn the form from the first choices of examples. Yield it after each number of epochs in `EPOCHS`."""
    drawn = torch.Generator().manual_seed(0)
    heads, _, width = data[0][0].rows.shape
    u = (torch.randn(heads, width, RANK, generator=drawn) / width**0.5).requires_grad_()
    v = torch.zeros(heads, width, RANK, requires_grad=True)
    optimizer = torch.optim.Adam([u, v], lr=RATE)
    some = [(one, len(group) ** (BALANCE - 1)) for group in data for one in group]
    mean = sum(weight for _, weight in some) / len(some)
    for epoch in range(1, EPOCHS[-1] + 1):
        order = torch.randperm(len(some), generator=drawn).tolist()
        for start in range(0, len(order), BATCH):
            optimizer.zero_grad()
            for one, weight in (some[i] for i in order[start : start + BATCH]):
                log_p = first(one.columns(u, v)).log_softmax(0)
                (-log_p[one.case.gold].mean() * weight / mean / BATCH).backward()
            optimizer.step()
        if epoch in EPOCHS:
            yield u.detach().clone(), v.detach().clone()


def row_columns(question: Question, index: PassageIndex) -> dict[str, Tensor]:
    """Return columns from the question's rows, and the vectors that `Read` needs.

    `apart`: the mean and the maximum over rows of s(S)(1 - s(R)), by layer and head, where s is the `share` of
    `passage_index.features`. A row counts if it attends to the passage S and not to the known passage R.
    """
    texts = [passage.text for passage in question.passages]
    units, sources = source_units(index, question.passages, list(range(len(texts))), texts)
    rows = index.question(question.text)
    sums = question_sums(rows, units)
    best = best_units(question_features(sums)[QUESTION.index("share")].mean((0, 1)), sources)
    sums, units = sums.of(best), [units[i] for i in best]
    share = (sums.units - sums.tokens.log()).softmax(-1)  # (layers, heads, rows, passages)
    both = share[..., None, :] * (1 - share[..., None])
    layer = index.encoder.layers[-1]
    return {
        "pairs.apart": torch.cat([both.mean(2), both.amax(2)], 0).flatten(0, 1).permute(1, 2, 0).float(),
        "rows": rows[layer].rows.half(),
        "sums": rows[layer].own,
        "keys": torch.cat([unit.record.keys[layer].restored() for unit in units], 1).half(),
        "tokens": torch.tensor([[unit.record.tokens, unit.record.lead] for unit in units]),
    }


def reads(run: Path, names: Sequence[str]) -> dict[str, list[Read]]:
    """Return the usable questions of a run by data set. Passages are read again unless their vectors are kept."""
    store = ExampleStore.open(run)
    layers = next(store.load([question.id for question in load_questions(names[0])])).layers
    vectors = ExampleStore(run / "rows", {"layers": layers})
    index = PassageIndex(LanguageModel.load(dtype="float32"), layers, layers[-1:], store=MemoryStore(2**28))
    found: dict[str, list[Read]] = {}
    for name in names:
        for question in load_questions(name):
            for one in store.load([question.id]):
                if not vectors.has(question.id):
                    vectors.add(replace(one, mass=row_columns(question, index)))
                kept = next(vectors.load([question.id])).mass
                if one.gold.any() and not one.gold.all():
                    whole = case(one, {"pairs.apart": kept["pairs.apart"]}, question.kind or "")
                    tokens, leads = kept["tokens"].T.tolist()
                    some = Read(
                        whole, one.mass["question"], kept["rows"], kept["sums"][None], kept["keys"], tokens, leads
                    )
                    found.setdefault(Path(name).parent.name, []).append(some)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train-scout")
    parser.add_argument("--data", nargs="+", required=True, help="data sets of that run")
    args = parser.parse_args()
    sets = reads(args.run, args.data)
    cases = {name: [one.case for one in some] for name, some in sets.items()}
    print(", ".join(f"{name}: {len(some)} questions" for name, some in sets.items()))
    whole, apart = LEVERS[0], Lever("pairs: rows that the first does not attract", pairs=("apart",))
    base = measured(list(cases.values()), whole)
    report(whole.title, cases, base, base)
    report(apart.title, cases, measured(list(cases.values()), apart), base)
    found: dict[int, list[dict[int, list[float]]]] = {epochs: [{} for _ in sets] for epochs in EPOCHS}
    for fold in range(FOLDS):
        train = [[one for i, one in enumerate(some) if i % FOLDS != fold] for some in sets.values()]
        first = Fitted([[one.case for one in some] for some in train], whole).first
        for epochs, form in zip(EPOCHS, forms(train, first), strict=True):
            fitted = Fitted([[one.changed(*form) for one in some] for some in train], whole)
            for values, some in zip(found[epochs], sets.values(), strict=True):
                values.update((i, fitted.recall(some[i].changed(*form))) for i in range(fold, len(some), FOLDS))
    for epochs, groups in found.items():
        ordered: Values = [[by[i] for i in range(len(by))] for by in groups]
        report(f"bilinear form of rank {RANK}, epochs: {epochs}", cases, ordered, base)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
