"""Collect the examples that scout's coefficients are fitted to. An example holds features from the passage index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..datasets import Question
from ..passage_index.features import QUESTION, best_units, links_from, question_features, question_sums
from ..passage_index.index import PassageIndex
from ..passage_index.sources import source_units
from .examples import COSINE, Example, ExampleStore

__all__ = ["collect_scout"]

NO_ABLATIONS = torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, 1, dtype=torch.float64)


def collect_scout(
    index: PassageIndex,
    questions: Sequence[Question],
    store: ExampleStore,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Collect the features of every question that `store` does not have yet.

    Returns:
        The number of questions without an example, by reason.
    """
    skipped: dict[str, int] = {}
    for question in questions:
        if not store.has(question.id):
            reason = ""
            if len(question.passages) < 2:
                reason = "fewer than two passages"
            elif not question.gold:
                reason = "no supporting passages are named"
            else:
                store.add(_example(index, question))
            if reason:
                skipped[reason] = skipped.get(reason, 0) + 1
        progress()
    return skipped


def _example(index: PassageIndex, question: Question) -> Example:
    """Return the example of a question.

    `Example.mass` holds features instead of attention mass:

    - `question`: the question features of all sources.
    - `links`: the link features of all pairs of sources.
    - `absent`: the question features of the sources that do not support the answer, computed as if the question had no
      other sources.
    - `cosine`: the cosine of each source's embedding and the question's embedding, if the index has an embedder.
    """
    texts = [passage.text for passage in question.passages]
    units, sources = source_units(index, question.passages, list(range(len(texts))), texts)
    rows = index.question(question.text)
    sums = question_sums(rows, units)
    share = question_features(sums)[QUESTION.index("share")].mean((0, 1))
    # A long passage is cut into pieces. A unit is the part of a source that lies in one piece. There are no
    # coefficients yet, so the feature `share` chooses the best unit of each source.
    best = best_units(share, sources)
    some = [units[i] for i in best]
    links = links_from(some, some, index.softcaps(rows))
    # Links have a direction. The link from b to a becomes a feature of the pair (a, b) too.
    links = torch.cat([links, links.transpose(0, -1)], 1)
    gold = torch.tensor([sources[i] in question.gold for i in best])
    mass = {"question": question_features(sums.of(best)), "links": links}
    cosines = index.cosines(question.text, [unit.record for unit in some])
    if cosines is not None:
        mass[COSINE] = cosines.float()[None, None, None]
    others = [unit for unit, supports in zip(best, gold.tolist(), strict=True) if not supports]
    if others:
        mass["absent"] = question_features(sums.of(others))
    return Example(question.id, "", mass, list(index.encoder.layers), *NO_ABLATIONS, gold)
