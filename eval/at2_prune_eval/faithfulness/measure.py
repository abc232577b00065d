r"""One question: how faithful each method's scores are to what the model used.

For a draft of probability :math:`p` and scores :math:`s` of the sources,

- **LDS** (linear datamodeling score) is Spearman's correlation, over random ablations, between the draft's measured
  log-odds :math:`\log p - \log(1 - p)` and :math:`\sum_{i \in kept} s_i`;
- **top-k drop** is :math:`\log p(draft \mid all) - \log p(draft \mid all\ but\ the\ k\ highest)`, of the whole draft,
  in nats (both: ContextCite, arXiv 2409.00729, section 3; AT2, arXiv 2504.13752);
- **Kendall's tau** is taken with gradient x input and with leave-one-out, where these are among the methods (Jain and
  Wallace 2019, arXiv 1902.10186, section 4.1).

The ablations of LDS are of another seed than the methods' own, and those that a surrogate or leave-one-out asked for
are left out: no method has seen them. Sources are removed by mask with positions kept, as in the papers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from at2_prune.ablation import seeded_generator
from at2_prune.datasets import Question
from at2_prune.errors import InputError
from at2_prune.passages import Granularity, only_kept
from at2_prune.pruning.selection import check_k, top_k
from at2_prune.scorers import RandomScorer, Scorer, Task

from ..loop.cached_loop import CachedLoop
from ..metrics import normalize_answer
from ..run.methods import check_ks
from ..run.store import Record
from .ablations import Ablator, held_out_masks, lds, log_probability, mask_of
from .order import order_test, shuffled_order
from .permutation import compare, kept_sets, random_rankings
from .ranks import kendall

__all__ = ["REFERENCES", "measure_faithfulness"]

REFERENCES = ("gradient_x_input", "leave_one_out")
"""Methods that the others are correlated with."""


def measure_faithfulness(
    loop: CachedLoop,
    scorers: Sequence[Scorer],
    question: Question,
    *,
    granularity: Granularity = "passage",
    ablations: int = 32,
    ks: Sequence[int] = (1, 3, 5),
    permutation_k: int = 2,
    permutations: int = 3,
    order_for: Collection[str] = (),
    seed: int = 0,
) -> Record:
    """Score a question's sources by every method, and measure the scores.

    Beyond what the methods ask for themselves, all ablations are one call, so that common beginnings are computed once.

    Args:
        loop: the pruning loop, with its memory.
        scorers: methods, of different names.
        question: its gold passages and answer are not used.
        granularity: what is scored: passages or their sentences.
        ablations: of LDS.
        ks: of the top-k drop.
        permutation_k: how many sources the permutation test keeps.
        permutations: over how many it averages.
        order_for: methods to put through the order test although they run ablations, which they then run again.
        seed: of ablations, permutations and order, together with the question's text.

    Returns:
        JSON values: `id, draft, sources`; `left_out`: None, or why nothing was measured (an empty draft, fewer than two
        sources); `ablations` (those of LDS), `log_p` of the draft with all sources; `order_skipped`, the methods that
        were not put through the order test: those that run ablations, and random scores, which follow the place only
        because of their seed; and `methods.<name>` with `scores`, `lds` (None where too few ablations are left that
        nobody has seen), `top_k_drop.<k>`, `kendall.<reference>`, `permutation` and `order`.
        `permutation` holds `kept` and, under `scores` and `permuted`, `same` (whether, or how often, the answer from
        the top k is the draft after normalisation) and `log_p` (of the draft with all but the top k removed). `order`
        holds `content` and `position`, or is None.

    Raises:
        InputError: a bad k, granularity or number, an unknown name in `order_for`, a score that is not a number.
    """
    ks = [k for k in check_ks(ks) if isinstance(k, int)]
    check_k(permutation_k)
    if granularity not in ("passage", "sentence"):
        raise InputError(f"granularity must be 'passage' or 'sentence', got {granularity!r}")
    if ablations < 2 or permutations < 1:
        raise InputError(f"needs at least 2 ablations and 1 permutation, got {ablations} and {permutations}")
    if unknown := sorted(set(order_for) - {scorer.name for scorer in scorers}):
        raise InputError(f"order_for names methods that are not measured: {unknown}")
    encode = loop.language_model.encode
    prompt = encode(question.text, question.passages, granularity)
    draft = loop.draft(prompt, list(dict.fromkeys(group for scorer in scorers for group in scorer.draft_groups))).draft
    count = len(prompt.sources)
    record: Record = {"id": question.id, "draft": draft.text, "sources": count, "left_out": None, "methods": {}}
    if not draft.ids or count < 2:
        return record | {"left_out": "fewer than two sources" if draft.ids else "empty draft"}

    ablator = Ablator(loop, prompt, draft.ids)
    task = Task(loop.language_model, question.text, question.passages, prompt, draft, outcomes=ablator)
    scores: dict[str, list[float]] = {}
    skipped: list[str] = []
    for scorer in scorers:
        calls = ablator.calls
        scores[scorer.name] = scorer.score(task).tolist()
        if (ablator.calls > calls or isinstance(scorer, RandomScorer)) and scorer.name not in order_for:
            skipped.append(scorer.name)

    everything = mask_of(count, range(count))
    held_out = held_out_masks(count, ablations, ablator.seen, _generator(seed, "ablations", question))
    without = {
        name: {k: mask_of(count, top_k(own, k), keep=False) for k in ks} for name, own in scores.items()
    }  # the top k
    rankings = random_rankings(count, permutations, _generator(seed, "permutations", question))
    kept = {name: kept_sets(own, rankings, permutation_k) for name, own in scores.items()}
    different = sorted({one for sets in kept.values() for one in sets})
    masks = [everything, *held_out, *(mask for by_k in without.values() for mask in by_k.values())]
    log_odds = ablator.log_odds(list(dict.fromkeys([*masks, *(mask_of(count, one) for one in different)])))
    log_p = {mask: log_probability(value) for mask, value in log_odds.items()}
    prompts = [encode(question.text, only_kept(question.passages, one, granularity)) for one in different]
    same = {
        one: float(normalize_answer(answer.text) == normalize_answer(draft.text))
        for one, answer in zip(different, loop.write_answers(prompts, draft.ids), strict=True)
    }
    for name, own in scores.items():
        outcomes = [{"same": same[one], "log_p": log_p[mask_of(count, one)]} for one in kept[name]]
        others = [other for other in REFERENCES if other in scores and other != name]
        record["methods"][name] = {
            "scores": own,
            "lds": lds(own, held_out, log_odds),
            "top_k_drop": {str(k): log_p[everything] - log_p[mask] for k, mask in without[name].items()},
            "kendall": {other: kendall(own, scores[other]) for other in others},
            "permutation": compare(kept[name], outcomes),
            "order": None,
        }
    tested = [scorer for scorer in scorers if scorer.name not in skipped]
    if tested and len(question.passages) > 1:
        order = shuffled_order(len(question.passages), _generator(seed, "order", question))
        for name, taus in order_test(loop, task, scores, tested, order, granularity).items():
            record["methods"][name]["order"] = taus
    return record | {"ablations": len(held_out), "log_p": log_p[everything], "order_skipped": skipped}


def _generator(seed: int, purpose: str, question: Question) -> torch.Generator:
    """Of its own for each purpose, so that more ablations do not change the order test."""
    return seeded_generator(seed, f"faithfulness {purpose} {question.text}")
