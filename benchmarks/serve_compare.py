"""Compare scout with a cross-encoder behind the same server: requests a second, and the time for an answer.

    python benchmarks/serve_compare.py --cross-encoder DIR [--clients 1 8 64] [--rounds 3] [--out FILE] [--write]

DIR is a folder in ONNX format. Two servers run at the same time, and every round asks each of them in turn, so that
other work on the machine slows all ways alike. A number of clients asks at least as many requests. The last three
columns are medians of the ratio to the cross-encoder in the same round, with the lowest and the highest; below 1 is
faster for the times, above 1 for the requests a second.

A line on stderr shows each measurement when it is done. With --out, each is also written to a file, and the same
command goes on from there. With --write, the section with the table is put into docs/serving.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch
from serve_load import Server, put_load
from workload import asked

from at2_prune.models.default_model import EMBEDDED_MODEL_ID

CROSS_ENCODER = "cross-encoder"
KEPT, NEW = "scout, kept passages", "scout, new passages"
Row = tuple[float, float, float]
"""Requests a second, and the 50th and 95th percentile of the time for an answer, in seconds."""
Key = tuple[int, int, str]
"""The round, the number of clients, and the way of a measurement."""
QUESTIONS = 20
PAGE = Path(__file__).resolve().parents[1] / "docs" / "serving.md"
HEADING = "## Against a cross-encoder"
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


class Record:
    """The measurements that are done.

    Args:
        path: the file that holds a JSON line for each measurement; with None, nothing is kept.
        settings: what the measurements depend on. Lines of the file with other settings are left alone.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.rows: dict[Key, Row] = {}
        if path and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                one = json.loads(line)
                if one["settings"] == settings:
                    self.rows[one["round"], one["clients"], one["way"]] = tuple(one["row"])

    def add(self, key: Key, row: Row) -> None:
        """Keep a measurement, and show it."""
        self.rows[key] = row
        turn, clients, way = key
        rate, middle, late = row
        print(
            f"round {turn + 1}, {clients} clients, {way}: {rate:.3g} requests/s, p50 {middle:.3g} s, p95 {late:.3g} s",
            file=sys.stderr,
            flush=True,
        )
        if self.path:
            line = {"settings": self.settings, "round": turn, "clients": clients, "way": way, "row": row}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def compare(
    servers: dict[str, Server], clients: Sequence[int], least: int, rounds: int, passages: int, record: Record
) -> None:
    """Take the measurements that the record does not hold yet."""
    ways = list(servers)
    for way in ways:  # reads the passages that are kept, and warms the servers up
        measure(servers[way], bodies_of(passages, min(QUESTIONS, max(*clients, least)), new=False), 1)
    for turn in range(rounds):
        for number in clients:
            for way in ways if turn % 2 == 0 else reversed(ways):
                if (turn, number, way) not in record.rows:
                    bodies = bodies_of(passages, max(number, least), new=way == NEW)
                    record.add((turn, number, way), measure(servers[way], bodies, number))


def table(rows: dict[Key, Row]) -> str:
    """Return the measurements as a Markdown table."""
    lines = [
        "| clients | way | requests/s | p50, s | p95, s | requests/s, ratio | p50, ratio | p95, ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rounds = sorted({turn for turn, _, _ in rows})
    for number in sorted({clients for _, clients, _ in rows}):
        for way in (CROSS_ENCODER, KEPT, NEW):
            some = [rows[turn, number, way] for turn in rounds]
            others = [rows[turn, number, CROSS_ENCODER] for turn in rounds]
            shown = [f"{median(row[i] for row in some):.3g}" for i in range(3)]
            for i in range(3):
                ratios = [a[i] / b[i] for a, b in zip(some, others, strict=True)]
                spread = "" if way == CROSS_ENCODER else f" [{min(ratios):.3g}, {max(ratios):.3g}]"
                shown.append(f"{median(ratios):.3g}{spread}")
            lines.append(f"| {number} | {way} | {' | '.join(shown)} |")
    return "\n".join(lines)


def section(rows: dict[Key, Row], settings: dict[str, Any]) -> str:
    """Return the section of docs/serving.md."""
    rounds = len({turn for turn, _, _ in rows})
    return f"""{HEADING}

Scout with {settings["model"]}, and the cross-encoder {settings["cross-encoder"]} (ONNX), each behind this server.
A request has {settings["passages"]} passages, which scout had read before (kept) or had not (new).
Every number of clients asked at least {settings["least"]} requests in each of {rounds} rounds.
Times and requests a second are medians of the rounds. Ratios are to the cross-encoder in the same round:
the median, and in brackets the lowest and the highest.
Every round asks the same questions. Measured without a GPU, on {settings["cores"]} cores ({settings["machine"]});
each server had {settings["threads"]} thread(s).
Printed by `python benchmarks/serve_compare.py --cross-encoder DIR`.

{table(rows)}
"""


def write(text: str, page: Path) -> None:
    """Put the section into a page, in place of the earlier one or at the end."""
    before, _, after = page.read_text(encoding="utf-8").partition(f"{HEADING}\n")
    _, mark, rest = after.partition("\n## ")
    page.write_text(before.rstrip("\n") + "\n\n" + text + (mark + rest), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cross-encoder", required=True, metavar="DIR", help="a folder in ONNX format")
    parser.add_argument("--model", help="scout's model by id or path (default: the embedded model)")
    parser.add_argument("--coefficients", help="scout's coefficients (default: those of the package)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], metavar="N")
    parser.add_argument("--least", type=int, default=16, metavar="N", help="requests of few clients (default: 16)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="the number of rounds (default: 3)")
    parser.add_argument("--passages", type=int, default=10, metavar="N", help="passages of a request (default: 10)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the measurements, and go on from those in it")
    parser.add_argument("--write", action="store_true", help="put the section into docs/serving.md")
    args = parser.parse_args()
    settings = {
        "model": args.model or EMBEDDED_MODEL_ID,
        "coefficients": args.coefficients,
        "cross-encoder": Path(args.cross_encoder).name,
        "least": args.least,
        "passages": args.passages,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }
    record = Record(args.out, settings)
    limits = ["--timeout", "600", "--max-waiting", str(2 * max(args.clients))]
    options = [*limits, *(["--model", args.model] if args.model else [])]
    given = ["--coefficients", args.coefficients] if args.coefficients else []
    with ExitStack() as stack:
        scout = stack.enter_context(closing(Server([*options, "--method", "scout", *given])))
        line = [*options, "--method", "cross_encoder", "--cross-encoder", args.cross_encoder]
        other = stack.enter_context(closing(Server(line)))
        servers = {CROSS_ENCODER: other, KEPT: scout, NEW: scout}
        compare(servers, args.clients, args.least, args.rounds, args.passages, record)
    shown = {key: row for key, row in record.rows.items() if key[0] < args.rounds and key[1] in args.clients}
    text = section(shown, settings)
    print(text)
    if args.write:
        write(text, PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
