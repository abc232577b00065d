"""Measure peak memory and held memory, with and without attribution.

    python benchmarks/memory.py --model random --passages 160 --draft 64 --way attributed

Prints one run's peak above the loaded model, in bytes, as JSON. The peak is of the tensors in torch's allocator, or
with --resident of the process. `attribution.py` runs each measurement in its own process, because memory that
an earlier run left to the system's allocator would hide the resident peak of a later run. The resident peak differs by
megabytes between runs; the allocator's count does not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import torch
from measuring import Clock, Measurement, exponent, median
from torch.profiler import ProfilerActivity, profile
from workload import case, coefficients_of, endless, load_model, untouched

from at2_prune.attention.reader import AttentionReader
from at2_prune.models.drafts import write_drafts
from at2_prune.scorers import LearnedScorer, Task
from at2_prune_eval.loop.cost import peak_memory, reset_peak

__all__ = ["growth", "peaks"]

WAYS = ("plain", "attributed")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run one way of drafting, and measure its peak, the memory that the draft holds, and the seconds of reading."""
    lm = load_model(args.model)
    some = case(lm, args.passages, args.granularity, merged=args.merged)
    scorer = LearnedScorer(coefficients_of(lm, "at2")[0])
    ids = torch.tensor([some.prompt.ids], device=lm.device)
    clock, held = Clock(), 0
    for name in ("__call__", "catch_up"):
        setattr(AttentionReader, name, clock.around(getattr(AttentionReader, name)))
    with endless(lm):
        first = case(lm, 2)  # set up everything that is set up once
        written = write_drafts(lm, [first.prompt], scorer.row_groups, 2, scorer.layers)[0]
        scorer.score(Task(lm, first.question, first.passages, first.prompt, written))
        del first, written
        clock.seconds = 0.0

        def plain() -> None:
            with untouched(lm) as bare:
                mask = torch.ones_like(ids)
                bare.generate(ids, attention_mask=mask, max_new_tokens=args.draft, do_sample=False, pad_token_id=0)

        def attributed() -> None:
            nonlocal held
            written = write_drafts(lm, [some.prompt], scorer.row_groups, args.draft, scorer.layers)[0]
            scorer.score(Task(lm, some.question, some.passages, some.prompt, written))
            readout = written.readout
            assert readout is not None
            tensors = [*readout.mass.values(), readout.row_mass]
            held = sum(t.untyped_storage().nbytes() for t in tensors if t is not None)

        peak_of = resident_peak if args.resident or lm.device.type == "cuda" else allocated_peak
        peak = peak_of(plain if args.way == "plain" else attributed, lm.device)
    config = lm.model.config.get_text_config()
    hidden = config.num_hidden_layers * len(some.prompt) * config.hidden_size * 4
    weights = config.num_hidden_layers * config.num_attention_heads * args.draft * len(some.prompt) * 4
    return {
        "model": lm.name,
        "passages": args.passages,
        "sources": len(some.prompt.sources),
        "tokens": len(some.prompt),
        "draft": args.draft,
        "peak": peak,
        "held": held,
        "reading": clock.seconds,
        "hidden": hidden,
        "weights": weights,
    }


def resident_peak(run: Callable[[], None], device: torch.device) -> int:
    """Return the peak bytes of the process, or of CUDA's allocator, above the bytes at the start."""
    before = reset_peak(device)
    run()
    return peak_memory(device) - before


def allocated_peak(run: Callable[[], None], device: torch.device) -> int:
    """Return the peak bytes of tensors on the CPU above the bytes at the start, from all allocations and releases."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    assert profiled.profiler is not None
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events), default=0)


def apart(**options: Any) -> dict[str, Any]:
    """Call `run` in its own process, with these options of the command line; None and False are left out."""
    command = [sys.executable, __file__]
    for name, value in options.items():
        if value is not None and value is not False:
            command += [f"--{name}", *([] if value is True else [str(value)])]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def peaks(model: str | None, passages: int, draft: int, runs: int) -> Iterator[Measurement]:
    """Measure the memory that attribution adds, divided by the size of all hidden states, or of all attention weights.

    Args:
        model: the name of the model.
        passages: the number of passages.
        draft: the number of tokens of the draft.
        runs: how many times the resident peak is measured, each way; the allocator's count is always the same.
    """
    how = {"model": model, "passages": passages, "draft": draft}
    counted = {way: apart(**how, way=way) for way in WAYS}
    found = {way: [apart(**how, way=way, resident=True) for _ in range(runs)] for way in WAYS}
    one = counted["attributed"]
    inputs = {key: one[key] for key in ("model", "passages", "tokens", "sources", "draft")}
    added = one["peak"] - counted["plain"]["peak"]
    more = sorted(a["peak"] - p["peak"] for a, p in zip(found["attributed"], found["plain"], strict=True))
    allocated = {**inputs, "bytes generate": counted["plain"]["peak"], "bytes added": added, "bytes held": one["held"]}
    for what, name in (("hidden", "all hidden states"), ("weights", "all weights of the draft's rows")):
        size = one[what]
        yield Measurement(f"peak memory added / {name}", allocated, *[added / size] * 3, limit=0.01)
        yield Measurement(f"memory held / {name}", allocated, *[one["held"] / size] * 3)
        if more:
            known = {**inputs, "runs": runs, "bytes added": more[len(more) // 2]}
            ends = (more[len(more) // 2] / size, more[0] / size, more[-1] / size)
            yield Measurement(f"resident peak added / {name} (median, range)", known, *ends)


def growth(model: str | None, sizes: list[int], drafts: list[int], runs: int) -> Iterator[Measurement]:
    """Measure the exponents of the seconds of reading and of the added memory, each against one size.

    Args:
        model: the name of the model.
        sizes: the numbers of passages. Where only tokens should grow, the passages are joined into `sizes[0]` sources.
        drafts: the numbers of tokens of the draft.
        runs: how many times seconds are measured; the interval is the range of the runs' exponents.
    """
    middle, some = drafts[len(drafts) // 2], sizes[0]
    series: dict[str, list[dict[str, Any]]] = {
        "tokens": [{"passages": size, "draft": middle, "merged": some} for size in sizes],
        "draft": [{"passages": some, "draft": draft} for draft in drafts],
        "sources": [{"passages": some, "draft": middle, "merged": count} for count in (some // 4 or 1, some // 2)]
        + [{"passages": some, "draft": middle, "granularity": kind} for kind in ("passage", "sentence")],
    }
    for against, cases in series.items():
        timed = [[apart(model=model, resident=True, **how) for _ in range(runs)] for how in cases]
        counted = [[apart(model=model, way=way, **how)["peak"] for way in WAYS] for how in cases]
        at = [rows[0][against] for rows in timed]
        inputs = {"model": timed[0][0]["model"], against: at}
        slopes = [exponent(at, [rows[run]["reading"] for rows in timed]) for run in range(runs)]
        seconds = [median([row["reading"] for row in rows]) for rows in timed]
        known = {**inputs, "seconds": [round(value, 4) for value in seconds], "runs": runs}
        yield Measurement(
            f"time reading: exponent against {against}", known, exponent(at, seconds), min(slopes), max(slopes)
        )
        added = [attributed - plain for plain, attributed in counted]
        slope = exponent(at, added)
        yield Measurement(f"memory added: exponent against {against}", {**inputs, "bytes": added}, *[slope] * 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help='default: the embedded one; "random" needs no download')
    parser.add_argument("--passages", type=int, default=10)
    parser.add_argument("--draft", type=int, default=8, help="tokens of the draft")
    parser.add_argument("--granularity", choices=["passage", "sentence"], default="passage")
    parser.add_argument("--merged", type=int, metavar="N", help="join the passages into N longer passages")
    parser.add_argument("--resident", action="store_true", help="the process's peak, not the allocator's")
    parser.add_argument("--way", choices=WAYS, default="attributed")
    args = parser.parse_args()
    print(json.dumps(run(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
