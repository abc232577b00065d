"""A method's scores of one question and what they cost, both remembered on the bench."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

import at2_prune
from at2_prune.attention.rows import RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.errors import InputError
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.scorers import Scorer, Task

from .bench import Bench
from .cache import digest
from .config import coefficients_digest, package_versions
from .cost import Cost, metered

__all__ = ["Ablator", "score"]


def score(bench: Bench, scorer: Scorer, task: Task) -> tuple[list[float], Cost]:
    """Scores of a task's sources, one each, and the cost of them on top of the draft.

    What is remembered took its time when it was measured, and is part of what the method costs all the same.

    Args:
        bench: the model.
        scorer: a method. It is remembered by its name, its settings and the code of at2-prune and of its own file; one
            whose settings cannot be written down is run anew every time.
        task: what it gets; its ablations are run on the bench.

    Raises:
        EmptyDraftError: the method needs a draft and the draft is empty.
        InputError: a score that is not a finite number.
    """
    identity = _identity(scorer)
    passages = [[passage.title, passage.text, passage.score] for passage in task.passages]
    shown = [task.question, passages, task.prompt.ids, task.prompt.sources, list(task.draft.ids)]
    key = digest("scores", bench.fingerprint, identity, shown)
    known = bench.cache.get(key) if identity else None
    if known is None:
        ablator = Ablator(bench, task.prompt, task.draft.ids)
        with metered(bench.language_model) as meter:
            scores = scorer.score(replace(task, outcomes=ablator)).tolist()
        if not all(map(math.isfinite, scores)):
            raise InputError(
                f"the method {scorer.name} gives scores that are not finite, {scores}, for the question "
                f"{task.question!r:.200}"
            )
        known = json.dumps({"scores": scores, "cost": asdict(ablator.correct(meter.cost))}).encode()
        if identity:
            bench.cache.put(key, known)
    value = json.loads(known)
    return value["scores"], Cost(**value["cost"])


def _identity(scorer: Scorer) -> list[Any] | None:
    """Everything that a method's scores depend on beside the task; None if that cannot be told."""
    try:
        code = inspect.getsource(sys.modules[type(scorer).__module__])
        return [_told(scorer), code, _own_code(), package_versions()]
    except (KeyError, OSError, TypeError):  # written in an interpreter, say
        return None


def _told(value: Any) -> Any:
    """A setting as JSON; of a method, or one that it uses, all that are not private.

    Raises:
        TypeError: it cannot be written down.
    """
    if isinstance(value, HeadCoefficients):
        return coefficients_digest(value)
    if isinstance(value, RowGroup):
        return value.name
    if hasattr(value, "row_groups"):  # a method
        settings = {name: setting for name, setting in vars(value).items() if name != "name" and name[0] != "_"}
        return [type(value).__qualname__, value.name, {name: _told(setting) for name, setting in settings.items()}]
    if isinstance(value, (list, tuple)):
        return [_told(entry) for entry in value]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and os.path.isdir(value):  # an encoder, which may be trained again
        return [value, max((path.stat().st_mtime for path in Path(value).rglob("*")), default=0.0)]
    if isinstance(value, (str, int, float, type(None))):
        return value
    raise TypeError(f"{type(value).__name__} is no setting that can be written down")


@functools.cache
def _own_code() -> str:
    """A digest of at2-prune's code: scores depend on much more of it than the method's own file."""
    state = hashlib.sha256()
    for path in sorted(Path(str(files(at2_prune))).rglob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


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
