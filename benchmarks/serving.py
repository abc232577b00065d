"""Measure one model that serves several threads: requests per second, and memory after many requests."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measuring import Measurement, median
from workload import case, coefficients_of, device_of

from at2_prune import AT2Pruner, LanguageModel
from at2_prune.scorers import LearnedScorer

__all__ = ["serving"]


def serving(
    lm: LanguageModel, passages: int, k: int, requests: int, rounds: int, lasting: int
) -> Iterator[Measurement]:
    """Measure AT2's throughput in threads and batches, divided by that of one thread, and memory after many requests.

    Args:
        lm: the model, shared by all threads.
        passages: the number of passages of every question.
        k: the number of passages that are kept.
        requests: the number of requests that are timed together.
        rounds: how often each way is timed.
        lasting: the number of requests between two measurements of memory; 0 measures no memory.
    """
    pruner = AT2Pruner(lm, LearnedScorer(coefficients_of(lm, "at2")[0]), max_new_tokens=8)
    cases = [case(lm, passages, index=index) for index in range(4)]
    asked = [cases[index % 4] for index in range(requests)]

    def ask(index: int) -> list[int]:
        some = cases[index % 4]
        return pruner.answer(some.question, some.passages, k).kept

    def threaded(threads: int) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(ask, range(requests)))
        return time.perf_counter() - started

    def batched() -> float:
        started = time.perf_counter()
        for first in range(0, requests, 4):
            some = asked[first : first + 4]
            pruner.answer_batch([s.question for s in some], [s.passages for s in some], k)
        return time.perf_counter() - started

    ways = {"1 thread": lambda: threaded(1), "4 threads": lambda: threaded(4), "16 threads": lambda: threaded(16)}
    ways["batches of 4"] = batched
    ask(0)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            taken[way].append(run())
    alone = taken["1 thread"]
    for way, seconds in taken.items():
        ratios = [base / mine for base, mine in zip(alone, seconds, strict=True)]
        rate = round(requests / median(seconds), 3)
        inputs = {"model": lm.name, "device": device_of(lm), "passages": passages, "k": k, "requests a second": rate}
        yield Measurement(f"throughput of at2, {way} / 1 thread", inputs, median(ratios), min(ratios), max(ratios))
    if not lasting:
        return
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(lasting // 5)))
        before = _resident()
        list(pool.map(ask, range(lasting)))
    ratio = _resident() / before
    inputs = {"model": lm.name, "passages": passages, "k": k, "requests": lasting, "threads": 4}
    yield Measurement("at2: resident memory after / before the requests", inputs, ratio, ratio, ratio, 1.02)


def _resident() -> int:
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
