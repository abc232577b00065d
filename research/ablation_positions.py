"""Compare two ablations to train on: an attention mask with positions kept, and text that is removed.

Takes two folders that `at2-prune train` made from the same questions, one with `--positions kept` and one with
`--positions closed`. Masks are drawn from the question's id, so they agree. Coefficients are fitted to each kind on one
half of the questions and measured on the other half: LDS for either kind of outcome, and the recall of the gold
passages among the top two. Then the halves are swapped, so that every question is measured once.

    python research/ablation_positions.py runs/kept runs/closed
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from at2_prune.attention.rows import DRAFT_ROWS
from at2_prune.bootstrap import bootstrap_mean
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.training import fidelity, fit
from at2_prune.training.choices import recall_at
from at2_prune.training.examples import Example, ExampleStore


def examples(folder: Path) -> list[Example]:
    """Return all examples of a run of at2-prune train, in an order that depends only on their ids."""
    return list(ExampleStore.open(folder).every())


def recalls(held: list[Example], weight: torch.Tensor) -> list[float]:
    """Return the recall at 2 of each example that has gold passages."""
    coefficients = HeadCoefficients(weight)
    scores = [coefficients.score({DRAFT_ROWS: one.mass["draft"][0]}) for one in held]
    return [recall_at(found, one.gold, 2) for found, one in zip(scores, held, strict=True) if one.gold.any()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path)
    parser.add_argument("closed", type=Path)
    args = parser.parse_args()
    folders = {"kept": args.kept, "closed": args.closed}
    kinds = {kind: {example.question_id: example for example in examples(path)} for kind, path in folders.items()}
    names = sorted(kinds["kept"].keys() & kinds["closed"].keys())
    agreement = []
    for name in names:
        kept, closed = (kinds[kind][name].outcomes[:, 0] for kind in ("kept", "closed"))
        if kept.std() > 0 and closed.std() > 0:
            agreement.append(torch.corrcoef(torch.stack([kept, closed]))[0, 1].item())
    ablations = kinds["kept"][names[0]].masks.shape[0]
    print(f"{len(names)} questions x {ablations} ablations, both kinds; 95 % intervals over questions")
    print(f"correlation of the two kinds' outcomes within a question: {bootstrap_mean(agreement)}\n")
    print(f"{'fitted to':<12}{'LDS, kept outcomes':<26}{'LDS, closed outcomes':<26}{'gold recall@2':<26}")
    for fitted in kinds:
        lds: dict[str, list[float]] = {"kept": [], "closed": []}
        recall: list[float] = []
        for half in (0, 1):
            weight, _ = fit([kinds[fitted][name] for name in names[half::2]], [DRAFT_ROWS])
            others = names[1 - half :: 2]
            for measured in kinds:
                held = [kinds[measured][name] for name in others]
                lds[measured] += fidelity(held, [DRAFT_ROWS], weight).lds.tolist()
            recall += recalls([kinds[fitted][name] for name in others], weight)
        row = [bootstrap_mean(values) for values in (lds["kept"], lds["closed"], recall)]
        print(f"{fitted:<12}" + "".join(f"{value!s:<26}" for value in row))


if __name__ == "__main__":
    main()
