"""Compare scout with a cross-encoder behind the same server: requests a second, and the time for an answer.

    python benchmarks/serve_compare.py --cross-encoder DIR [--clients 1 8 64] [--rounds 3]

DIR is a folder in ONNX format. Two servers run at the same time, and every round asks each of them in turn, so that
other work on the machine slows all ways alike. A number of clients asks at least as many requests. The last three
columns are medians of the ratio to the cross-encoder in the same round; below 1 is faster for the times, above 1 for
the requests a second.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
from collections.abc import Sequence
from itertools import count
from statistics import median
from typing import Any

from serve_load import Server, put_load
from workload import asked

from at2_prune.models.default_model import EMBEDDED_MODEL_ID

CROSS_ENCODER = "cross-encoder"
KEPT, NEW = "scout, kept passages", "scout, new passages"
Row = tuple[float, float, float]
"""Requests a second, and the 50th and 95th percentile of the time for an answer, in seconds."""
QUESTIONS = 20
_numbers = count(1)


def bodies_of(passages: int, requests: int, new: bool) -> list[dict[str, Any]]:
    """Return the bodies of requests. If `new`, no server has seen any of the documents."""
    bodies = []
    for index in range(requests):
        question, chosen = asked(passages, index % QUESTIONS)
        texts = [f"({next(_numbers)}) {one.text}" if new else one.text for one in chosen]
        bodies.append({"query": question, "documents": texts})
    return bodies


def measure(server: Server, bodies: Sequence[dict[str, Any]], clients: int) -> Row:
    """Ask every body once, by this number of clients."""
    load = asyncio.run(put_load(server, bodies, None, clients, len(bodies), False))
    times = sorted(load.times)
    last = len(times) - 1
    return len(times) / load.seconds, times[round(0.5 * last)], times[round(0.95 * last)]


def compare(
    servers: dict[str, Server], clients: Sequence[int], least: int, rounds: int, passages: int
) -> dict[tuple[int, str], list[Row]]:
    """Return the rows of each round, by number of clients and way."""
    ways = list(servers)
    for way in ways:  # reads the passages that are kept, and warms the servers up
        measure(servers[way], bodies_of(passages, min(QUESTIONS, max(*clients, least)), new=False), 1)
    rows: dict[tuple[int, str], list[Row]] = {}
    for turn in range(rounds):
        for number in clients:
            for way in ways if turn % 2 == 0 else reversed(ways):
                bodies = bodies_of(passages, max(number, least), new=way == NEW)
                rows.setdefault((number, way), []).append(measure(servers[way], bodies, number))
    return rows


def table(rows: dict[tuple[int, str], list[Row]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| clients | way | requests/s | p50, s | p95, s | requests/s, ratio | p50, ratio | p95, ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (number, way), some in rows.items():
        own = [median(row[i] for row in some) for i in range(3)]
        others = rows[number, CROSS_ENCODER]
        ratios = [median(a[i] / b[i] for a, b in zip(some, others, strict=True)) for i in range(3)]
        shown = [f"{value:.3g}" for value in [*own, *ratios]]
        lines.append(f"| {number} | {way} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cross-encoder", required=True, metavar="DIR", help="a folder in ONNX format")
    parser.add_argument("--model", help="scout's model by id or path (default: the embedded model)")
    parser.add_argument("--coefficients", help="scout's coefficients (default: those of the package)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], metavar="N")
    parser.add_argument("--least", type=int, default=16, metavar="N", help="requests of few clients (default: 16)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="the number of rounds (default: 3)")
    parser.add_argument("--passages", type=int, default=10, metavar="N", help="passages of a request (default: 10)")
    args = parser.parse_args()
    limits = ["--timeout", "600", "--max-waiting", str(2 * max(args.clients))]
    options = [*limits, *(["--model", args.model] if args.model else [])]
    given = ["--coefficients", args.coefficients] if args.coefficients else []
    scout = Server([*options, "--method", "scout", *given])
    try:
        other = Server([*options, "--method", "cross_encoder", "--cross-encoder", args.cross_encoder])
        try:
            servers = {CROSS_ENCODER: other, KEPT: scout, NEW: scout}
            rows = compare(servers, args.clients, args.least, args.rounds, args.passages)
        finally:
            other.close()
    finally:
        scout.close()
    print(f"{args.model or EMBEDDED_MODEL_ID}, {args.passages} passages a request, {args.rounds} rounds,")
    print(f"at least {args.least} requests a round, {platform.processor() or platform.machine()}\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
