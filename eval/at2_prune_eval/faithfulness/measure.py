r"""Measure for one question how faithful the scores of methods are: do they show which sources the model used?

Let :math:`p` be the probability of the draft, and :math:`s` the scores of the sources.

- **LDS** (linear datamodeling score) is Spearman's correlation, over random ablations, between the draft's measured
  log-odds :math:`\log p - \log(1 - p)` and :math:`\sum_{i \in kept} s_i`.
- **Top-k drop** is :math:`\log p(draft \mid all) - \log p(draft \mid all\ but\ the\ k\ highest)`, for the whole draft,
  in nats. LDS and top-k drop are from ContextCite (arXiv 2409.00729, section 3) and AT2 (arXiv 2504.13752).
- **Kendall's tau** correlates a method's scores with the scores of gradient x input and of leave-one-out, if these are
  among the methods (Jain and Wallace 2019, arXiv 1902.10186, section 4.1).

The ablations of LDS have another seed than the ablations of the methods. An ablation that a method (a surrogate, or
leave-one-out) has run is not used for LDS. No method has therefore seen the ablations of LDS. Sources are removed by an
attention mask, and all positions are kept, as in the papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from at2_prune.ablation import seeded_generator
from at2_prune.datasets import Question
from at2_prune.errors import InputError
from at2_prune.passages import Granularity, only_kept
from at2_prune.scorers import RandomScorer, Scorer, Task

from ..loop.cached_loop import CachedLoop
from ..metrics import normalize_answer
from ..records import Record
from .ablations import Ablator, Mask, lds, log_probability, mask_of
from .order import order_test, shuffled_order
from .permutation import compare
from .plan import Plan, make_plan
from .ranks import kendall
from .settings import FaithfulnessSettings

__all__ = ["ONE_MODEL", "REFERENCES", "measure_faithfulness"]

REFERENCES = ("gradient_x_input", "leave_one_out")
"""Kendall's tau compares every other method's scores with the scores of these methods."""
ONE_MODEL = (
    "faithfulness is about the model that wrote the draft, which must score too: measure it with one model, without a "
    "reader"
)


def measure_faithfulness(
    loop: CachedLoop,
    scorers: Sequence[Scorer],
    question: Question,
    settings: FaithfulnessSettings | None = None,
) -> Record:
    """Score a question's sources with every method, and measure how faithful the scores are.

    The ablations that the measures need are run in one call after all methods have run, so that shared prefixes run
    only once.

    Args:
        loop: the pruning loop, which caches its results.
        scorers: the methods, with different names.
        question: the question. Its gold passages and its answer are not used.
        settings: the settings of the measures. The default is `FaithfulnessSettings()`.

    Returns:
        JSON values with these keys:

        `id`, `draft`: the question's id, and the text of the draft;
        `sources`: the number of sources;
        `left_out`: None, or the reason why nothing was measured (an empty draft, or fewer than two sources);
        `ablations`: the number of ablations of LDS;
        `log_p`: the draft's log-probability with all sources;
        `order_skipped`: the methods that do not take the order test. Such a method runs ablations, or its scores are
        random numbers that depend on positions;
        `methods.<name>`: the measurements of a method, under the keys `scores`, `lds`, `top_k_drop.<k>`,
        `kendall.<reference>`, `permutation` and `order`.

        `lds` is None if too few ablations are left that no method has seen. `order` is None if the method did not take
        the test. Otherwise it holds `content` and `position`.

        `permutation` holds `kept`, `scores` and `permuted`. `kept` holds the top k sources. `scores` holds the values
        `same` and `log_p` for the method's scores. `permuted` holds the means of these two values over permuted scores.
        `same` is 1 if the normalised answer from the top k is the draft, else 0. `log_p` is the draft's log-probability
        if only the top k are kept.

    Raises:
        InputError: `order_for` names an unknown method, or the loop has a separate reader.
    """
    if loop.two_models:
        raise InputError(ONE_MODEL)
    settings = settings or FaithfulnessSettings()
    if unknown := sorted(set(settings.order_for) - {scorer.name for scorer in scorers}):
        raise InputError(f"order_for names methods that are not measured: {unknown}")
    prompt = loop.language_model.encode(question.text, question.passages, settings.granularity)
    draft = loop.draft(prompt, list(dict.fromkeys(group for scorer in scorers for group in scorer.draft_groups))).draft
    count = len(prompt.sources)
    record: Record = {"id": question.id, "draft": draft.text, "sources": count, "left_out": None, "methods": {}}
    if not draft.ids or count < 2:
        return record | {"left_out": "fewer than two sources" if draft.ids else "empty draft"}
    ablator = Ablator(loop, prompt, draft.ids)
    task = Task(loop.language_model, question.text, question.passages, prompt, draft, outcomes=ablator)
    scores, skipped = _scores(scorers, task, ablator, settings)
    plan = make_plan(count, scores, ablator.seen, question.text, settings)
    log_odds = ablator.log_odds(plan.masks)
    same = _same_answers(loop, task, plan.different, settings.granularity)
    record["methods"] = {name: _entry(name, scores, plan, log_odds, same) for name in scores}
    tested = [scorer for scorer in scorers if scorer.name not in skipped]
    for name, taus in _order(loop, task, scores, tested, settings).items():
        record["methods"][name]["order"] = taus
    log_p = log_probability(log_odds[plan.everything])
    return record | {"ablations": len(plan.held_out), "log_p": log_p, "order_skipped": skipped}


def _scores(
    scorers: Sequence[Scorer], task: Task, ablator: Ablator, settings: FaithfulnessSettings
) -> tuple[dict[str, list[float]], list[str]]:
    """Return the scores of every method, and the names of the methods that do not take the order test."""
    scores: dict[str, list[float]] = {}
    skipped: list[str] = []
    for scorer in scorers:
        calls = ablator.calls
        scores[scorer.name] = scorer.score(task).tolist()
        if (ablator.calls > calls or isinstance(scorer, RandomScorer)) and scorer.name not in settings.order_for:
            skipped.append(scorer.name)
    return scores, skipped


def _entry(
    name: str,
    scores: Mapping[str, Sequence[float]],
    plan: Plan,
    log_odds: Mapping[Mask, float],
    same: Mapping[tuple[int, ...], float],
) -> dict[str, Any]:
    """Return the measurements of one method for a question's record."""
    own, count = scores[name], len(plan.everything)
    log_p = {mask: log_probability(value) for mask, value in log_odds.items()}
    outcomes = [{"same": same[one], "log_p": log_p[mask_of(count, one)]} for one in plan.kept[name]]
    return {
        "scores": own,
        "lds": lds(own, plan.held_out, log_odds),
        "top_k_drop": {str(k): log_p[plan.everything] - log_p[mask] for k, mask in plan.without[name].items()},
        "kendall": {other: kendall(own, scores[other]) for other in REFERENCES if other in scores and other != name},
        "permutation": compare(plan.kept[name], outcomes),
        "order": None,
    }


def _same_answers(
    loop: CachedLoop, task: Task, kept: Sequence[tuple[int, ...]], granularity: Granularity
) -> dict[tuple[int, ...], float]:
    """Return a number for each set of kept sources: 1 if the normalised answer from the set is the draft, else 0."""
    shown = [only_kept(task.passages, one, granularity) for one in kept]
    prompts = [loop.language_model.encode(task.question, passages) for passages in shown]
    draft = normalize_answer(task.draft.text)
    answers = loop.write_answers(prompts, task.draft.ids)
    return {one: float(normalize_answer(answer.text) == draft) for one, answer in zip(kept, answers, strict=True)}


def _order(
    loop: CachedLoop,
    task: Task,
    scores: Mapping[str, Sequence[float]],
    scorers: Sequence[Scorer],
    settings: FaithfulnessSettings,
) -> dict[str, dict[str, float]]:
    if not scorers or len(task.passages) < 2:
        return {}
    generator = seeded_generator(settings.seed, f"faithfulness order {task.question}")
    order = shuffled_order(len(task.passages), generator)
    return order_test(loop, task, scores, scorers, order, settings.granularity)
