"""A method's scores of one question and what they cost, both remembered on the bench."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch

from at2_prune.prompt import EncodedPrompt
from at2_prune.scorers import Scorer, Task

from .bench import Bench
from .cache import digest
from .config import describe_scorer
from .cost import Cost, metered

__all__ = ["Ablator", "score"]


def score(bench: Bench, scorer: Scorer, task: Task) -> tuple[list[float], Cost]:
    """Scores of a task's sources, one each, and the cost of them on top of the draft.

    What is remembered took its time when it was measured, and is part of what the method costs all the same.

    Args:
        bench: the model.
        scorer: a method.
        task: what it gets; its ablations are run on the bench.

    Raises:
        EmptyDraftError: the method needs a draft and the draft is empty.
    """
    code = _code(scorer)
    passages = [[passage.title, passage.text, passage.score] for passage in task.passages]
    shown = [task.question, passages, task.prompt.ids, task.prompt.sources, list(task.draft.ids)]
    key = digest("scores", bench.model, scorer.name, describe_scorer(scorer), code, shown)
    known = bench.cache.get(key) if code else None
    if known is None:
        ablator = Ablator(bench, task.prompt, task.draft.ids)
        with metered(bench.language_model) as meter:
            scores = scorer.score(replace(task, outcomes=ablator)).tolist()
        known = json.dumps({"scores": scores, "cost": asdict(ablator.correct(meter.cost))}).encode()
        if code:
            bench.cache.put(key, known)
    value = json.loads(known)
    return value["scores"], Cost(**value["cost"])


def _code(scorer: Scorer) -> str:
    """The file a method is written in, so that an edited method is run anew; empty where there is none."""
    try:
        return inspect.getsource(sys.modules[type(scorer).__module__])
    except (KeyError, OSError, TypeError):
        return ""


class Ablator:
    """Runs a task's ablations on the bench, and keeps the account straight.

    What the bench remembers takes no time now, but is part of what a method costs.
    """

    def __init__(self, bench: Bench, prompt: EncodedPrompt, target: Sequence[int]) -> None:
        self._bench = bench
        self._prompt = prompt
        self._target = target
        self._due = self._spent = Cost()

    def __call__(self, masks: torch.Tensor) -> torch.Tensor:
        with metered(self._bench.language_model) as meter:
            outcomes, cost = self._bench.outcomes(self._prompt, self._target, masks)
        self._spent += meter.cost
        self._due += cost
        return outcomes

    def correct(self, measured: Cost) -> Cost:
        """The measured cost of a method, with that of its ablations as if they had been run for it."""
        return Cost(
            max(0.0, measured.seconds - self._spent.seconds) + self._due.seconds,
            max(0.0, measured.tokens - self._spent.tokens) + self._due.tokens,
            self._due.memory or measured.memory,
        )
