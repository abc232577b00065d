"""Time two ways of doing the same work in alternating pairs, and return the ratio of their times."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Clock", "Measurement", "exponent", "load", "median", "median_interval", "merged", "paired", "save", "show"]


@dataclass(frozen=True)
class Measurement:
    """One line of the results."""

    name: str
    inputs: dict[str, Any]
    """Model, passages, tokens, device, pairs and everything else that the measurement depends on."""
    ratio: float
    """The first way's median divided by the second's, or what the name says: seconds, an exponent, a share."""
    low: float
    high: float
    """The ends of the 95 % bootstrap interval over pairs, or of the range over runs."""
    limit: float | None = None
    """The largest ratio that is accepted."""


class Clock:
    """Adds up the seconds inside the functions that it wraps; a nested call is not counted twice."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def around(self, way: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            self._depth += 1
            started = time.perf_counter()
            try:
                return way(*args, **options)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return timed


def median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(0.5))


def paired(
    name: str,
    inputs: dict[str, Any],
    first: Callable[[], Any],
    second: Callable[[], Any],
    pairs: int,
    limit: float | None = None,
    around_second: Callable[[], AbstractContextManager[Any]] = nullcontext,
    warm_up: bool = True,
) -> Measurement:
    """Time two ways in alternating order.

    Args:
        name: the name of the measurement.
        inputs: the values that it depends on.
        first: the way whose time is divided.
        second: the way by whose time it is divided.
        pairs: how many times both are run.
        limit: the limit of the ratio.
        around_second: a context in which the second way runs; it is entered before the clock starts.
        warm_up: run each way once before, without counting it.
    """
    if warm_up:
        first()
        with around_second():
            second()
    seconds: list[list[float]] = []
    for turn in range(pairs):
        ways = [(0, first, nullcontext), (1, second, around_second)]
        taken = [0.0, 0.0]
        for place, way, around in ways if turn % 2 == 0 else reversed(ways):
            with around():
                taken[place] = _timed(way)
        seconds.append(taken)
    times = torch.tensor(seconds, dtype=torch.float64)  # (pairs, 2)
    drawn = torch.randint(pairs, (2000, pairs), generator=torch.Generator().manual_seed(0))
    medians = times[drawn].quantile(0.5, dim=1)  # (resamples, 2)
    low, high = (medians[:, 0] / medians[:, 1]).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    one, other = times.quantile(0.5, dim=0).tolist()
    inputs = {**inputs, "pairs": pairs, "seconds": [round(one, 4), round(other, 4)]}
    return Measurement(name, inputs, one / other, low, high, limit)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, and the ends of its 95 % bootstrap interval."""
    drawn = torch.randint(len(values), (2000, len(values)), generator=torch.Generator().manual_seed(0))
    medians = torch.tensor(values, dtype=torch.float64)[drawn].quantile(0.5, dim=1)
    low, high = medians.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return median(values), low, high


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of log cost over log size, by least squares: 1 is linear, 2 is quadratic."""
    x = torch.tensor([math.log(size) for size in sizes], dtype=torch.float64)
    y = torch.tensor([math.log(max(cost, 1e-12)) for cost in costs], dtype=torch.float64)
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def show(measurement: Measurement) -> str:
    """Return one line of the table that is printed while measuring."""
    limit = "" if measurement.limit is None else f"  limit {measurement.limit:g}"
    inputs = ", ".join(f"{key} {value}" for key, value in measurement.inputs.items())
    interval = f"[{measurement.low:.4g}, {measurement.high:.4g}]"
    return f"{measurement.name:<46} {measurement.ratio:>9.4g} {interval:<20}{limit:<13} {inputs}"


def save(measurements: Sequence[Measurement], path: Path) -> None:
    path.write_text(json.dumps([asdict(m) for m in measurements], indent=1) + "\n", encoding="utf-8")


def merged(earlier: Sequence[Measurement], new: Sequence[Measurement]) -> list[Measurement]:
    """Replace earlier measurements by new ones of the same kind, and add the other new measurements at the end."""
    fresh = {_what(m): m for m in new}
    known = [fresh.pop(_what(m), m) for m in earlier]
    return known + list(fresh.values())


def _what(measurement: Measurement) -> tuple[Any, ...]:
    """Return the name and the chosen inputs, without the measured inputs."""
    chosen = ("model", "device", "passages", "sources", "draft", "k", "ablations", "times", "way")
    return (measurement.name, *(str(measurement.inputs.get(key)) for key in chosen))


def load(path: Path) -> list[Measurement]:
    return [Measurement(**item) for item in json.loads(path.read_text(encoding="utf-8"))]


def _timed(way: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    way()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
