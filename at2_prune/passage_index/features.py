"""Computes the features of a source from the attention of rows to the source's kept keys.

The rows are those of the question or of another source. Take a row :math:`t` of an attention head and a source
:math:`S` with :math:`n_S` tokens. Let :math:`z_{tj}` be the logit of row :math:`t` and key :math:`j`, and let
:math:`A_t(S) = \\sum_{j \\in S} e^{z_{tj}}`. :math:`O_t` is the same sum over other tokens: the opening text
(`layout.HEAD`), `layout.BEFORE_QUESTION`, and the question's tokens up to the row. If the layer has an attention sink,
:math:`O_t` includes it. :math:`T_S` is the set of title tokens. Without a title, it is the first six tokens of the
piece that holds :math:`S`.

There are three quantities, called `joint`, `share` and `title`. The question's features are the mean and the maximum of
each quantity over the question's rows:

.. math:: \\frac{A_t(S)/n_S}{\\sum_R A_t(R)/n_R + O_t/130}, \\quad
          \\frac{A_t(S)/n_S}{\\sum_R A_t(R)/n_R}, \\quad
          \\frac{A_t(T_S)}{\\sum_R A_t(R) + O_t},

The code computes the features of units. A unit is the part of a source that lies in one piece; see `Unit`. The code
uses the formulas with units instead of sources. So :math:`S` is one unit, and :math:`R` runs over all units that
`question_features` gets. In `joint` and `share`, each sum of a unit is divided by the unit's number of tokens, so that
a long source does not win by its length. In `joint`, :math:`O_t` is divided by `USUAL_TOKENS`, 130, so that it has the
same scale.

A link from one source to another is :math:`A_t(S) / (A_t(S) + O_t)`. The rows :math:`t` are those of the first source,
and :math:`S` is the second source. Here, :math:`O_t` is the sum over the opening text, the tokens of the first source's
piece up to the row, and the sink. A link to the title has the numerator :math:`A_t(T_S)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..attention.weights import scaled_logits
from .encoder import LayerRows
from .records import PieceRecord

__all__ = [
    "LINKS",
    "QUESTION",
    "Sums",
    "Unit",
    "best_units",
    "link_features",
    "links_from",
    "question_features",
    "question_sums",
]

QUESTION = ("joint", "joint-max", "share", "share-max", "title", "title-max")
"""The features of a question's rows."""
LINKS = ("to", "to-max", "to-title-max", "from", "from-max", "from-title-max")
"""The features of the link between two sources. One of the two sources is called the known source. In the direction
`to`, the rows of the known source attend to the other source. In the direction `from`, the rows of the other source
attend to the known source. Each direction has three features. The first two are the mean and the maximum, over the
rows, of the attention to all tokens of a source. The third is the maximum of the attention to the title tokens only."""
USUAL_TOKENS = 130
"""The usual number of tokens of a passage. In the feature `joint`, the sum :math:`O_t` is divided by this number."""
UNITS_AT_ONCE = 128
"""The maximum number of units whose kept keys `question_sums` converts to float32 at a time."""


@dataclass(frozen=True)
class Unit:
    """The part of a source that lies in one piece of its passage: the tokens from `start` to `stop` of the piece."""

    record: PieceRecord
    start: int
    stop: int

    @property
    def tokens(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Sums:
    """Log-sum-exps of the attention logits of the question's rows, float64."""

    units: torch.Tensor
    """The sums over each unit's tokens, `(layers, heads, rows, units)`."""
    titles: torch.Tensor
    """The sums over the title tokens of each unit's piece, `(layers, heads, rows, units)`."""
    own: torch.Tensor
    """The sums for :math:`O_t`, which the text at the top of this module defines, `(layers, heads, rows)`."""
    tokens: torch.Tensor
    """The number of tokens of each unit, `(units,)`."""

    def of(self, units: Sequence[int]) -> Sums:
        """Return the sums of some units."""
        some = torch.tensor(list(units), dtype=torch.long)
        return Sums(self.units[..., some], self.titles[..., some], self.own, self.tokens[some])


def question_sums(question: Mapping[int, LayerRows], units: Sequence[Unit]) -> Sums:
    """Return the log-sum-exps of the question's attention logits over the tokens of each unit, in every layer."""
    units_, titles, own = [], [], []
    for layer, rows in question.items():
        found = [_unit_sums(rows.rows, rows.softcap, layer, some) for some in _chunks(units)]
        units_.append(torch.cat([whole for whole, _ in found], -1))
        titles.append(torch.cat([title for _, title in found], -1))
        own.append(rows.own.double())
    tokens = torch.tensor([unit.tokens for unit in units], dtype=torch.float64)
    return Sums(torch.stack(units_), torch.stack(titles), torch.stack(own), tokens)


def question_features(sums: Sums) -> torch.Tensor:
    """Return the features `QUESTION` of each unit, `(6, layers, heads, units)` float32.

    In the formulas at the top of this module, R runs over the units of `sums`.
    """
    per_token = sums.units - sums.tokens.log()
    together = per_token.logsumexp(-1, keepdim=True)
    own = sums.own[..., None]
    everything = torch.logaddexp(sums.units.logsumexp(-1, keepdim=True), own)
    joint = (per_token - torch.logaddexp(together, own - math.log(USUAL_TOKENS))).exp()
    share = (per_token - together).exp()
    title = (sums.titles - everything).exp()
    return torch.stack([reduced for mass in (joint, share, title) for reduced in (mass.mean(2), mass.amax(2))]).float()


def link_features(known: Sequence[Unit], units: Sequence[Unit], softcaps: Mapping[int, float | None]) -> torch.Tensor:
    """Return the features `LINKS` between known units and all units, `(known, 6, link layers, heads, units)` float32.

    The features between two units of the same piece are 0.

    Args:
        known: the known units.
        units: all units.
        softcaps: for each link layer, the soft-cap of the logits, or None.
    """
    back = links_from(units, known, softcaps).transpose(0, -1)
    return torch.cat([links_from(known, units, softcaps), back], 1)


def links_from(known: Sequence[Unit], units: Sequence[Unit], softcaps: Mapping[int, float | None]) -> torch.Tensor:
    """Return the features of the direction `to`: `(known, 3, link layers, heads, units)`; see `link_features`."""
    found = torch.stack([_attention(known, units, layer, softcap) for layer, softcap in softcaps.items()], 2)
    same = torch.tensor([[one.record is other.record for other in units] for one in known])
    return found.float().masked_fill(same[:, None, None, None], 0.0)


def _attention(known: Sequence[Unit], units: Sequence[Unit], layer: int, softcap: float | None) -> torch.Tensor:
    """Return the features of the direction `to` in one layer, `(known, 3, heads, units)`."""
    rows = torch.cat([unit.record.rows[layer].restored()[:, unit.start : unit.stop] for unit in known], 1)
    own = torch.cat([unit.record.own[layer][:, unit.start : unit.stop, None] for unit in known], 1).double()
    whole, titles = _unit_sums(rows, softcap, layer, units)  # (heads, all rows, units)
    everything = torch.logaddexp(own, whole)
    mass, title = (whole - everything).exp(), (titles - everything).exp()
    lengths = [unit.tokens for unit in known]
    return torch.stack(
        [
            torch.stack([some.mean(1), some.amax(1), some_title.amax(1)])
            for some, some_title in zip(mass.split(lengths, 1), title.split(lengths, 1), strict=True)
        ]
    )


def best_units(values: torch.Tensor, sources: Sequence[int]) -> list[int]:
    """Return the index of each source's best unit, in ascending order.

    Args:
        values: the value of each unit, `(units,)`. The best unit has the highest value.
        sources: the source of each unit.
    """
    best: dict[int, int] = {}
    for unit, source in enumerate(sources):
        if source not in best or values[unit] > values[best[source]]:
            best[source] = unit
    return sorted(best.values())


def _unit_sums(
    rows: torch.Tensor, softcap: float | None, layer: int, units: Sequence[Unit]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-sum-exps over the tokens of each unit, and over the title tokens of each unit's piece.

    Both tensors are `(heads, rows, units)` float64.
    """
    records = list({id(unit.record): unit.record for unit in units}.values())
    starts = dict(zip(map(id, records), _starts([record.tokens for record in records]), strict=True))
    keys = torch.cat([record.keys[layer].restored() for record in records], 1)
    logits = scaled_logits(rows, keys, softcap)
    places = [(starts[id(unit.record)], unit) for unit in units]

    def sums(spans: list[tuple[int, int]]) -> torch.Tensor:
        return torch.stack([logits[..., start:stop].logsumexp(-1) for start, stop in spans], -1).double()

    whole = sums([(start + unit.start, start + unit.stop) for start, unit in places])
    return whole, sums([(start, start + unit.record.lead) for start, unit in places])


def _starts(lengths: Sequence[int]) -> list[int]:
    return [0, *torch.tensor(lengths).cumsum(0).tolist()[:-1]]


def _chunks(units: Sequence[Unit]) -> list[Sequence[Unit]]:
    return [units[start : start + UNITS_AT_ONCE] for start in range(0, len(units), UNITS_AT_ONCE)]
