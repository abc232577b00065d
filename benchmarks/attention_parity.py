"""Compare attention mass with the eager attention of an untouched copy of the model, family by family.

    python benchmarks/attention_parity.py [family ...]

Each family is a tiny random model (see families.py). Its attention is read twice: while the model
drafts with a key/value cache, and in one teacher-forced pass over the finished text. Each reading is compared with the
eager attention of the same passes. The column `between` compares the two readings. They differ for a family whose own
passes differ with and without a cache. The last columns say whether the family's plain passes give the same numbers
after a shared prefix, in a padded batch, and for ablations that leave tokens out instead of masking them (see
exactness.py).

The exit code is 1 if a difference from eager attention exceeds 1e-5.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from exactness import eager_copy, exactness
from families import FAMILIES, PROBED, build
from transformers import PreTrainedModel

from at2_prune.attention.reader import AttentionReader, read_attention
from at2_prune.attention.rows import Reading, Rows

TOLERANCE = 1e-5
PROMPT, NEW = 44, 8
SOURCES = [(2, 9), (9, 17), (19, 19), (20, 27), (27, 36)]  # adjacent, with gaps, and an empty one
ROWS = [
    Rows("question", 37, 43),
    Rows("question-max", 37, 43, "max"),
    Rows("last", 43, 44),
    Rows("draft", 43, None, "none"),
]


@dataclass(frozen=True)
class Parity:
    """The largest absolute differences of attention mass, over all row groups, layers, heads and sources."""

    family: str
    kernel: str
    layers: int
    drafting: float
    """The difference between the reading while drafting and eager attention while drafting."""
    teacher_forced: float
    """The difference between the reading of one pass over the finished text and eager attention in that pass."""
    between: float
    """The difference between the two readings. Some models themselves give other numbers with a cache."""

    @property
    def worst(self) -> float:
        """The largest difference from eager attention."""
        return max(self.drafting, self.teacher_forced)


def prompt_ids(seed: int = 1) -> torch.Tensor:
    return torch.randint(2, 128, (1, PROMPT), generator=torch.Generator().manual_seed(seed))


def generate(model: PreTrainedModel, ids: torch.Tensor, **options: Any) -> Any:
    writer: Any = model
    return writer.generate(ids, max_new_tokens=NEW, do_sample=False, attention_mask=torch.ones_like(ids), **options)


def while_drafting(steps: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Join the weights of all steps to one `(1, heads, rows, keys)` per layer. Keys that a cache has dropped get 0."""
    total = PROMPT + len(steps) - 1
    layers = []
    for layer in range(len(steps[0])):
        rows = []
        for step, weights in enumerate(each[layer] for each in steps):
            dropped = PROMPT + step - weights.shape[-1]
            rows.append(torch.nn.functional.pad(weights, (dropped, total - PROMPT - step)))
        layers.append(torch.cat(rows, dim=2))
    return layers


def with_rows(attentions: Sequence[torch.Tensor], rows: int) -> list[torch.Tensor]:
    """Leave out layers of linear attention, which return a state without a row for each token."""
    return [weights for weights in attentions if weights is not None and weights.shape[2] == rows]


def expected_mass(attentions: Sequence[torch.Tensor], rows: Rows, sources: list[tuple[int, int]]) -> torch.Tensor:
    """Return the expected value of `AttentionReader.mass`, from every layer's dense attention weights."""
    weights = torch.stack([*attentions])[:, 0, :, rows.start : rows.stop]  # (layers, heads, rows, keys)
    mass = torch.stack([weights[..., start:stop].sum(-1) for start, stop in sources], dim=-1)
    return {"mean": mass.mean(2), "max": mass.amax(2), "none": mass}[rows.reduce]


def compare(family: str) -> Parity:
    """Read one family's attention both ways, and compare."""
    return compare_model(family, build(family))


@torch.no_grad()
def compare_model(family: str, model: PreTrainedModel) -> Parity:
    """Read the attention of a family's model both ways, and compare."""
    kernel = model.config._attn_implementation
    eager, ids = eager_copy(model), prompt_ids()
    readings = [Reading(SOURCES, ROWS)]
    with read_attention(model, readings) as drafting:
        text = generate(model, ids)[:, :-1]  # the last token's row predicts nothing
    with read_attention(model, readings) as teacher_forced:
        model(text, use_cache=False)
    whole = eager(text, use_cache=False, output_attentions=True).attentions
    steps = generate(eager, ids, output_attentions=True, return_dict_in_generate=True).attentions
    in_steps = while_drafting([with_rows(step, 1 if i else PROMPT) for i, step in enumerate(steps)])
    expected = {
        id(drafting): {rows.name: expected_mass(in_steps, rows, SOURCES) for rows in ROWS},
        id(teacher_forced): {rows.name: expected_mass(with_rows(whole, text.shape[1]), rows, SOURCES) for rows in ROWS},
    }

    def largest(one: AttentionReader, other: AttentionReader | None = None) -> float:
        wanted = {rows.name: other.mass(rows.name) for rows in ROWS} if other else expected[id(one)]
        return max((one.mass(name) - mass).abs().max().item() for name, mass in wanted.items())

    return Parity(
        family,
        kernel,
        len(drafting.layers),
        largest(drafting),
        largest(teacher_forced),
        largest(drafting, teacher_forced),
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = FAMILIES | PROBED
    parser.add_argument("families", nargs="*", metavar="family", help=f"default: all of {', '.join(known)}")
    families = parser.parse_args(arguments).families or list(known)
    if unknown := sorted(set(families) - set(known)):
        parser.error(f"unknown {unknown}; choose from {list(known)}")
    print(f"{'family':<22}{'kernel':<8}{'layers':>6}{'drafting':>10}{'teacher-forced':>16}{'between':>9}", end="")
    print(f"{'prefix':>9}{'batch':>9}{'ablation':>10}")
    worst = 0.0
    for name in families:
        row, exact = compare(name), exactness(build(name))
        worst = max(worst, row.worst)
        numbers = f"{row.drafting:>10.1e}{row.teacher_forced:>16.1e}{row.between:>9.1e}"
        words = ["exact" if each else "differs" for each in (exact.prefix, exact.batch, exact.ablation)]
        print(
            f"{row.family:<22}{row.kernel:<8}{row.layers:>6}{numbers}{words[0]:>9}{words[1]:>9}{words[2]:>10}",
            flush=True,
        )
    print(f"largest difference from eager {worst:.1e}, allowed {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
