"""Compare attention mass with the eager attention of an untouched copy of the model, family by family.

    python benchmarks/attention_parity.py [family ...]

Each family is a tiny random model (see families.py). Its attention is read twice: while the model drafts with a
key/value cache, and in one teacher-forced pass over the finished text. Exit code 1 if any difference exceeds 1e-5.
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import dataclass
from typing import Any

import torch
from families import FAMILIES, build
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
    """The difference between the reading while drafting and eager attention."""
    teacher_forced: float
    """The difference between one pass over the finished text and eager attention."""
    between: float
    """The difference between the two readings."""

    @property
    def worst(self) -> float:
        return max(self.drafting, self.teacher_forced, self.between)


def prompt_ids(seed: int = 1) -> torch.Tensor:
    return torch.randint(2, 128, (1, PROMPT), generator=torch.Generator().manual_seed(seed))


def eager_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model that runs its family's own eager attention."""
    untouched = copy.deepcopy(model)
    untouched.set_attn_implementation("eager")
    return untouched


def generate(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    writer: Any = model
    return writer.generate(ids, max_new_tokens=NEW, do_sample=False, attention_mask=torch.ones_like(ids))


def expected_mass(attentions: tuple[torch.Tensor, ...], rows: Rows, sources: list[tuple[int, int]]) -> torch.Tensor:
    """The expected value of `AttentionReader.mass`, from every layer's dense attention weights."""
    weights = torch.stack(attentions)[:, 0, :, rows.start : rows.stop]  # (layers, heads, rows, keys)
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
    reference = eager(text, use_cache=False, output_attentions=True).attentions
    expected = {rows.name: expected_mass(reference, rows, SOURCES) for rows in ROWS}

    def largest(one: AttentionReader, other: AttentionReader | None = None) -> float:
        wanted = {rows.name: other.mass(rows.name) for rows in ROWS} if other else expected
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
    parser.add_argument("families", nargs="*", metavar="family", help=f"default: all of {', '.join(FAMILIES)}")
    families = parser.parse_args(arguments).families or list(FAMILIES)
    if unknown := sorted(set(families) - set(FAMILIES)):
        parser.error(f"unknown {unknown}; choose from {list(FAMILIES)}")
    print(f"{'family':<20}{'kernel':<8}{'layers':>6}{'drafting':>12}{'teacher-forced':>16}{'between':>12}")
    worst = 0.0
    for name in families:
        row = compare(name)
        worst = max(worst, row.worst)
        numbers = f"{row.drafting:>12.1e}{row.teacher_forced:>16.1e}{row.between:>12.1e}"
        print(f"{row.family:<20}{row.kernel:<8}{row.layers:>6}{numbers}", flush=True)
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
