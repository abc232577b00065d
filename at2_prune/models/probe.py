"""Probes a model: measures claims about caches, padding and left-out tokens on short random sequences.

Each claim says that two ways of running a model give the same numbers. The probe runs both ways and compares the logits
and the attention mass of the last rows. Attention mass is compared too, because a difference in attention may hardly
change the logits of so few tokens. For a decoding step in a batch, only the logits are compared.

A probe has two random sequences, a longer one and a shorter one. The longer sequence has 64 tokens more than the
largest window that the config names, so that a cache with this window drops keys. If this length exceeds `LONGEST`, the
claim counts as false. No sequence is longer than the model's context.

The difference in logits is the root mean square of the differences, divided by the root mean square of the centred
logits. The difference in attention mass is the largest absolute difference; attention mass lies between 0 and 1. The
two ways compute the same sums in different orders, so the results differ by rounding. If a claim holds, these are the
largest differences that were measured:

- in float32, 9e-5 in logits and 4e-6 in mass, over the tiny random models of `benchmarks/families.py` and Gemma 3 270M;
- in bfloat16, 0.022 in logits and 0.016 in mass over the tiny random models;
- in bfloat16, 0.059 in logits and 0.031 in mass on Gemma 3 270M, which has 18 layers.

If a claim does not hold, the logits of the tiny models differ by 0.3 or more in every precision. The bounds that
`tolerances` returns lie between these values, with a margin for deeper models. If a claim is wrongly counted as false,
the model only runs more slowly. So a claim in doubt counts as false.
"""

from __future__ import annotations

import contextvars
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from transformers import PretrainedConfig, PreTrainedModel

from .probe_trial import ROWS, Seen, Subject, Trial, whole_numbers

__all__ = ["Claim", "largest_window", "measure", "tolerances"]

logger = logging.getLogger(__name__)

Claim = Literal["shares_prefixes", "pads_exactly", "joins_caches", "drops_exactly"]
"""The name of a claim about a model. The method of `Trial` with this name compares two ways of running the model."""

LONGEST = 512
"""The maximum number of tokens in a probe's sequence."""
WINDOW_NAMES = re.compile("window|chunk|block|topk|local|sparse|stride")
"""The pattern for names of config entries that may hold an attention window. A window is the maximum number of tokens
that a row attends to. If the pattern matches another entry, the probe only takes longer, or the claim counts as
false."""


@dataclass
class _Record:
    """The claims that were measured on one model, with their answers."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    answers: dict[Claim, bool] = field(default_factory=dict)


_records: WeakKeyDictionary[PreTrainedModel, _Record] = WeakKeyDictionary()
_recording = threading.Lock()


def measure(subject: Subject, claim: Claim) -> bool:
    """Return whether a claim holds for a model.

    Each claim is measured once per model. If another thread is measuring the model, this call waits for that thread. A
    claim that cannot be measured counts as false. For example, a model may have no cache, or its attention cannot be
    read.
    """
    with _recording:
        record = _records.setdefault(subject.model, _Record())
    with record.lock:
        if claim not in record.answers:
            # The caller may be reading attention, with a listener in a context variable (see `attention.hooks`). The
            # probe runs in an empty context, so this listener does not see the probe's passes.
            record.answers[claim] = contextvars.Context().run(_measure, subject, claim)
        return record.answers[claim]


def largest_window(config: PretrainedConfig) -> int:
    """Return the largest attention window that a config names, or 0 if it names none; see `WINDOW_NAMES`.

    Example:
        >>> from transformers import MistralConfig
        >>> largest_window(MistralConfig(sliding_window=128))
        128
    """
    entries = config.get_text_config().to_dict()
    found = [value for name, value in entries.items() if WINDOW_NAMES.search(name) and "expert" not in name]
    return max(whole_numbers(found), default=0)


def tolerances(model: PreTrainedModel) -> tuple[float, float]:
    """Return the largest differences that rounding may cause, in logits and in attention mass.

    The difference in logits is relative to the spread of the logits.
    """
    precision = torch.bfloat16 if getattr(model, "is_quantized", False) else model.dtype
    if precision == torch.bfloat16:  # 8 significant bits
        return 0.15, 0.1
    in_tf32 = model.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    if precision == torch.float16 or in_tf32:  # 11 significant bits
        return 0.04, 0.03
    return 3e-4, 1e-4


def _measure(subject: Subject, claim: Claim) -> bool:
    name = f"{type(subject.model).__name__} (model type {subject.model.config.model_type!r})"
    window = largest_window(subject.model.config)
    length = window + 4 * ROWS
    if length > LONGEST:
        logger.info(
            "%s: %s counts as false: the config names a window of %d tokens, which is too long for a probe",
            name,
            claim,
            window,
        )
        return False
    try:
        with torch.no_grad():
            trial = Trial(subject, length)
            off = [_differences(one, other) for one, other in _CLAIMS[claim](trial)]
    except Exception as error:  # a model may fail in any way; the claim then counts as false
        logger.info("%s: %s counts as false, because the probe failed: %r", name, claim, error)
        return False
    worst = max(logits for logits, _ in off), max(mass for _, mass in off)
    holds = all(each <= bound for pair in off for each, bound in zip(pair, tolerances(subject.model), strict=True))
    logger.info("%s: %s is %s; logits differ by %.1e, attention mass by %.1e", name, claim, holds, *worst)
    return holds


def _differences(one: Seen, other: Seen) -> tuple[float, float]:
    """Return the difference in logits and the difference in attention mass.

    The difference in logits is the root mean square of the differences, divided by the spread of the logits. The
    difference in attention mass is the largest absolute difference.
    """
    rows = min(len(one.logits), len(other.logits))
    a, b = one.logits[-rows:].float(), other.logits[-rows:].float()
    spread = (b - b.mean(-1, keepdim=True)).square().mean().sqrt().item()
    if not spread > 0:
        raise ValueError("all logits are equal, or they are not finite, so they cannot be compared")
    logits = (a - b).square().mean().sqrt().item() / spread
    if one.mass is None or other.mass is None:
        return logits, 0.0
    return logits, (one.mass - other.mass).abs().max().item()


_CLAIMS: dict[Claim, Callable[[Trial], Iterator[tuple[Seen, Seen]]]] = {
    "shares_prefixes": Trial.shares_prefixes,
    "pads_exactly": Trial.pads_exactly,
    "joins_caches": Trial.joins_caches,
    "drops_exactly": Trial.drops_exactly,
}
