"""Measure which rows, layers, heads and questions find supporting passages, and in which form; cross-validated.

    $ at2-prune train --data hotpotqa/train.jsonl --learn-from evidence --layers $(seq 0 17) \\
          --rows question question-max last sources sources-max --dtype bfloat16 --out runs/evidence18
    $ python research/evidence.py runs/evidence18

Coefficients are fitted to four fifths of a run's examples and measured on the remaining fifth, in turn. Nothing is
drafted or ablated again. Intervals are 95 %, by bootstrap over questions, with the same questions for every line. The
last column is the paired difference in recall@2. Rows are compared with `question question-max`, and one layer with all
layers. Fewer questions, other forms and fewer coefficients are compared with the mass itself and all questions.

    $ at2-prune train --data hotpotqa/validation.jsonl --learn-from evidence --layers 5 --dtype bfloat16 \\
          --out runs/scout-validation
    $ python research/evidence.py runs/scout6 --test runs/scout-validation --data hotpotqa/validation.jsonl --offset 100

With --test, a run on other questions, only the forms of the mass are measured: they are fitted to all examples of the
first run and measured on the examples of the other.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from folds import BEST, FOLDS, cross_fitted, load, measured, only

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import Estimate, bootstrap_difference, bootstrap_mean
from at2_prune.datasets import load_questions
from at2_prune.training import fit_evidence
from at2_prune.training.examples import Example

ROWS = (
    ("last",),
    ("draft",),
    ("question",),
    ("question-max",),
    ("question", "question-max"),
    ("question", "question-max", "sources"),
    ("question", "question-max", "sources-max"),
    ("question", "question-max", "sources", "sources-max"),
    ("question-contribution", "question-max-contribution"),
    ("question", "question-max", "question-contribution", "question-max-contribution"),
    ("question", "question-max", "draft", "draft-max", "last"),
    ("question", "question-max", "draft", "draft-max", "last", "sources", "sources-max"),
)


FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "square root": torch.sqrt,
    "logarithm": lambda mass: (mass + 1e-5).log(),
    "share of the head's mass on sources": lambda mass: mass / (mass.sum(-1, keepdim=True) + 1e-9),
    "z-scores of a head over sources": lambda mass: (
        (mass - mass.mean(-1, keepdim=True)) / (mass.std(-1, keepdim=True) + 1e-9)
    ),
    "over the head's largest": lambda mass: mass / (mass.amax(-1, keepdim=True) + 1e-9),
}
"""The forms that coefficients could weigh in place of attention mass."""


def cross_validate(
    examples: Sequence[Example],
    names: Sequence[str],
    layers: Sequence[int],
    limit: int | None = None,
    heads: int | None = None,
) -> dict[str, list[float]]:
    """Call `cross_fitted` on supporting facts, with a limited number of the other folds' examples.

    With `heads`, only that many coefficients are fitted: the most important ones of a fit of all coefficients.
    """
    groups = [RowGroup.from_name(name) for name in names]

    def fitted(train: list[Example], fold: int) -> torch.Tensor:
        random.Random(fold).shuffle(train)
        weight = fit_evidence(train[:limit], groups, range(len(layers)))
        if heads is None:
            return weight
        few = largest(train, groups, range(len(layers)), weight, heads)
        return fit_evidence([masked(example, groups, few) for example in train], groups, range(len(layers)))

    return cross_fitted([only(example, layers) for example in examples], groups, fitted)


def formed(examples: Sequence[Example], form: Callable[[torch.Tensor], torch.Tensor]) -> list[Example]:
    """Return the examples with a form of the mass in place of the mass."""
    return [replace(e, mass={name: form(mass) for name, mass in e.mass.items()}) for e in examples]


def compare_forms(fitted: Sequence[Example], test: Sequence[Example]) -> None:
    """Fit forms of the mass to some questions, and measure them on others, with the layers of the test."""
    layers = [fitted[0].layers.index(layer) for layer in test[0].layers]
    some = [only(example, layers) for example in fitted]
    groups = [RowGroup.from_name(name) for name in BEST]
    print(
        f"fitted to {len(some)} questions, layers {test[0].layers}; paired differences in recall to the mass itself\n"
    )
    header = ("recall@2", "recall@3", "recall@2, paired", "recall@3, paired")
    print(f"{f'measured on {len(test)} others':<40}" + "  ".join(f"{name:<22}" for name in header))
    base: dict[str, list[float]] = {}
    for name, form in {"attention mass itself": torch.clone, **FORMS}.items():
        weight = fit_evidence(formed(some, form), groups, range(len(layers)))
        values = measured(formed(test, form), groups, weight)
        base = base or values
        columns = ("gold_recall@2", "gold_recall@3")
        shown = [str(bootstrap_mean(values[column])) for column in columns]
        shown += [str(bootstrap_difference(values[column], base[column])) for column in columns]
        print(f"{name:<40}" + "  ".join(f"{cell:<22}" for cell in shown), flush=True)


def largest(
    examples: Sequence[Example], groups: Sequence[RowGroup], layers: Sequence[int], weight: torch.Tensor, count: int
) -> torch.Tensor:
    """Return where weight times spread of the feature is largest, as `(row groups, layers, heads)` bool."""
    spread = torch.stack(
        [torch.cat([e.mass[group.name][0, list(layers)].flatten(2) for e in examples], 2).std(2) for group in groups]
    )
    return weight.abs() * spread >= (weight.abs() * spread).flatten().topk(count).values[-1]


def masked(example: Example, groups: Sequence[RowGroup], few: torch.Tensor) -> Example:
    """Set the features of all other coefficients to 0. A feature that is always 0 gets no weight."""
    mass = dict(example.mass)
    for group, some in zip(groups, few, strict=True):
        whole = mass[group.name]
        mass[group.name] = whole * some.reshape(1, *some.shape, *[1] * (whole.dim() - 3))
    return replace(example, mass=mass)


def line(title: str, values: dict[str, list[float]], base: dict[str, list[float]] | None = None) -> str:
    """Return a row of a table. With a base, the row also has the paired difference in recall@2 to the base."""
    columns = ("gold_recall@2", "both_gold@2", "both_gold@3", "both_gold@5")
    shown = [str(bootstrap_mean(values[column])) for column in columns]
    if base:
        shown.append(str(bootstrap_difference(values[columns[0]], base[columns[0]])))
    return f"{title:<51} " + "  ".join(shown)


def draw(recall: dict[int, Estimate], path: Path) -> None:
    """Draw recall at 2 by the layer that is read, with a line for chance."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "at2-prune", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(6, 2.6), layout="constrained")
        axes = figure.add_subplot()
        means = [estimate.mean for estimate in recall.values()]
        spread = [
            [estimate.mean - estimate.low for estimate in recall.values()],
            [estimate.high - estimate.mean for estimate in recall.values()],
        ]
        axes.bar(list(recall), means, yerr=spread, color="#0072B2", ecolor="#333333", error_kw={"lw": 1})
        axes.plot([-0.7, len(recall) - 0.5], [0.2, 0.2], color="#D55E00", linestyle="--", lw=1)
        axes.annotate("chance", (len(recall) - 0.4, 0.2), va="center", color="#D55E00")
        axes.set(
            xlabel="layer", ylabel="gold recall at 2", ylim=(0, 1), xticks=list(recall), xlim=(-0.7, len(recall) + 1.2)
        )
        axes.spines[["top", "right"]].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train")
    parser.add_argument("--figure", type=Path, help="draw recall by layer into this SVG file")
    parser.add_argument("--test", type=Path, help="another run: fit to the first, measure on this one")
    parser.add_argument("--data", help="the questions of --test")
    parser.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N of them")
    args = parser.parse_args()
    torch.manual_seed(0)
    some = load(args.run)
    if args.test:
        wanted = {question.id for question in load_questions(args.data, offset=args.offset)} if args.data else None
        compare_forms(some, [e for e in load(args.test) if wanted is None or e.question_id in wanted])
        return
    depth, has = len(some[0].layers), set(some[0].mass)
    print(f"{len(some)} questions, {FOLDS} folds, {depth} layers; 95 % intervals over questions")
    header = ("recall@2", "both@2", "both@3", "both@5")
    print(f"\n{'rows, all layers':<52}" + "  ".join(f"{name:<20}" for name in (*header, "recall@2, paired")))
    base = cross_validate(some, BEST[:2], range(depth)) if set(BEST[:2]) <= has else None
    for names in ROWS:
        if set(names) <= has:
            print(line(" ".join(names), cross_validate(some, names, range(depth)), base), flush=True)
    rows = [name for name in BEST if name in has]
    print("\nfirst layers, rows " + " ".join(rows))
    for count in sorted({max(1, round(depth * part)) for part in (1 / 4, 1 / 3, 1 / 2, 2 / 3, 1)}):
        print(line(f"{count} of {depth}", cross_validate(some, rows, range(count))), flush=True)
    print("\none layer, rows " + " ".join(rows))
    alone = {layer: cross_validate(some, rows, [layer]) for layer in range(depth)}
    if args.figure:
        draw({layer: bootstrap_mean(values["gold_recall@2"]) for layer, values in alone.items()}, args.figure)
    best = sorted(alone, key=lambda layer: -sum(alone[layer]["gold_recall@2"]))[:5]
    whole = cross_validate(some, rows, range(depth))
    for layer in sorted(best):
        print(line(f"layer {layer}; paired with all layers", alone[layer], whole), flush=True)
    chosen = [only(example, best[:1]) for example in some]
    plain = cross_validate(chosen, rows, [0])
    print(f"\nquestions fitted to, layer {best[0]}, rows " + " ".join(rows))
    for limit in (20, 50, 100, 200):
        if limit < len(some) * (FOLDS - 1) // FOLDS:
            print(line(str(limit), cross_validate(chosen, rows, [0], limit), plain), flush=True)
    print(f"\nforms of the mass, layer {best[0]}, rows " + " ".join(rows))
    print(line("attention mass itself", plain), flush=True)
    for name, form in FORMS.items():
        print(line(name, cross_validate(formed(chosen, form), rows, [0]), plain), flush=True)
    print(f"\ncoefficients left, layer {best[0]}, rows " + " ".join(rows))
    for count in (1, 2, 4, 8):
        print(line(str(count), cross_validate(chosen, rows, [0], heads=count), plain), flush=True)
    if not {"sources", "sources-max"} <= has:
        return
    compared: list[tuple[Sequence[int], str]] = [(range(depth), "all layers"), (best[:1], f"layer {best[0]}")]
    for layers, title in compared:
        without = cross_validate(some, BEST[:2], layers)["gold_recall@2"]
        linked = cross_validate(some, BEST, layers)["gold_recall@2"]
        gain = bootstrap_difference(linked, without)
        print(f"\nwhat links add to recall@2, {title}, paired: {gain}")


if __name__ == "__main__":
    main()
