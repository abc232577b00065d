"""Put load on `at2-prune serve`, and compare every answer with the answer that a single client gets.

    python benchmarks/serve_load.py [--method scout] [--clients 1 8 64] [--requests 2000] [--restart] [--hang-up 10]
    python benchmarks/serve_load.py --clients 8 --requests 10000 --flat 1.05

It starts a server with a small random model, or with the model that --model names. For each number of clients it prints
the requests per second, the median and 95th percentile of the time for an answer, and the memory of the server after
it. With --restart, the server is killed and started anew in the middle, and clients repeat lost requests. The exit code
is 1 if an answer differs. With --hang-up, a client asks and closes the connection before every Nth request. With
--flat, a tenth as many requests come first, and the exit code is also 1 if memory grows after them by more than this
factor.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
from index_cost import scout_coefficients_of
from workload import RANDOM, case, coefficients_of, load_model

from at2_prune.catalogue import METHODS

Answer = list[tuple[int, float]]
"""Indices and scores, best first."""


class Server:
    """A server process on loopback."""

    def __init__(self, options: Sequence[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.line = [sys.executable, "-m", "at2_prune", "serve", "--port", str(self.port), *options]
        self.start()

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.process = subprocess.Popen(self.line, stderr=subprocess.DEVNULL)
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"the server did not start: {' '.join(self.line)}")
            try:
                httpx.get(f"{self.url}/ready").raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let the server end by itself."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def memory(self) -> float:
        """Return the resident memory in MiB, or NaN on systems that do not tell it in /proc."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return float("nan")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@dataclass
class Load:
    """The result of one load."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    wrong: int = 0
    again: int = 0
    """Requests that were refused or lost, and asked again."""

    def row(self, clients: int, memory: float) -> str:
        cuts = quantiles(self.times, n=20)
        rate = len(self.times) / self.seconds
        numbers = f"{rate:>11.1f}  {1000 * cuts[9]:>7.1f}  {1000 * cuts[18]:>7.1f}"
        return f"{clients:>7}  {numbers}  {self.again:>11}  {self.wrong:>7}  {memory:>10.0f}"


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, Any], load: Load) -> Answer:
    """Ask until the server answers."""
    while True:
        try:
            answer = await client.post(f"{url}/v2/rerank", json=body)
        except httpx.TransportError:
            load.again += 1
            await asyncio.sleep(0.2)
            continue
        if answer.status_code in (429, 503):
            load.again += 1
            await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
            continue
        answer.raise_for_status()
        return [(one["index"], one["relevance_score"]) for one in answer.json()["results"]]


async def put_load(
    server: Server,
    bodies: Sequence[dict[str, Any]],
    expected: Sequence[Answer] | None,
    clients: int,
    requests: int,
    restart: bool,
    hang_up: int = 0,
) -> Load:
    """Ask `requests` times by this number of clients at once, and compare with the expected answers.

    Args:
        server: the server.
        bodies: the bodies of the requests, which take turns.
        expected: the right answer to each body; None compares nothing.
        clients: the number of clients.
        requests: the number of requests.
        restart: whether the server is killed and started anew in the middle.
        hang_up: before every request with a multiple of this number, a client asks the same and hangs up; 0 for never.
    """
    load = Load()
    numbers = iter(range(requests))

    async def one_client(client: httpx.AsyncClient) -> None:
        for number in numbers:
            if restart and number == requests // 2:
                server.kill()
                await asyncio.to_thread(server.start)
            which = number % len(bodies)
            if hang_up and number % hang_up == 0:
                with suppress(httpx.TransportError):
                    await client.post(f"{server.url}/v2/rerank", json=bodies[which], timeout=0.01)
            started = time.perf_counter()
            answer = await ask(client, server.url, bodies[which], load)
            load.times.append(time.perf_counter() - started)
            load.wrong += expected is not None and not same(answer, expected[which])

    started = time.perf_counter()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=300, limits=limits) as shared:  # one connection for each client
        await asyncio.gather(*(one_client(shared) for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    return load


def same(answer: Answer, expected: Answer) -> bool:
    """Return whether the order is the same, and the scores are the same within rounding."""
    return [i for i, _ in answer] == [i for i, _ in expected] and all(
        abs(a - b) < 1e-4 for (_, a), (_, b) in zip(answer, expected, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--model", default=RANDOM, help="a model by id or path (default: a small random one)")
    parser.add_argument("--method", default="bm25", help="the method that scores (default: %(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], metavar="N")
    parser.add_argument("--requests", type=int, default=2000, metavar="N", help="requests for each number of clients")
    parser.add_argument("--passages", type=int, default=10, metavar="N", help="passages in a request")
    parser.add_argument("--restart", action="store_true", help="kill the server in the middle and start it anew")
    parser.add_argument("--hang-up", type=int, default=0, metavar="N", help="hang up before every Nth request")
    parser.add_argument("--flat", type=float, metavar="FACTOR", help="the largest growth of memory (default: any)")
    args = parser.parse_args()
    if args.flat and args.restart:
        parser.error("--flat compares the memory of one process, and --restart starts another: give one of them")
    with tempfile.TemporaryDirectory() as folder:
        lm = load_model(args.model)
        options = ["--method", args.method, "--model", args.model]
        if args.model == RANDOM:
            lm.model.save_pretrained(folder)
            lm.tokenizer.save_pretrained(folder)
            options[-1] = folder
        if METHODS[args.method].coefficients and args.model == RANDOM:
            scout = args.method == "scout"
            made = scout_coefficients_of(lm)[0] if scout else coefficients_of(lm, args.method)[0]
            made.save_pretrained(os.path.join(folder, "coefficients"))
            options += ["--coefficients", os.path.join(folder, "coefficients")]
        cases = [case(lm, args.passages, index=index) for index in range(20)]
        bodies = [{"query": one.question, "documents": [p.text for p in one.passages]} for one in cases]
        del lm
        with closing(Server(options)) as server:
            return measure(server, bodies, args)


def measure(server: Server, bodies: Sequence[dict[str, Any]], args: argparse.Namespace) -> int:
    """Print a row for each number of clients. Return 1 if an answer differs, or if memory grows by too much."""
    expected: list[Answer] = []

    async def serially() -> None:
        async with httpx.AsyncClient(timeout=300) as client:
            expected.extend([await ask(client, server.url, body, Load()) for body in bodies])

    asyncio.run(serially())
    print(f"{args.method} on {args.model}, {args.passages} passages, {args.requests} requests per row")
    print(f"memory after {len(bodies)} requests: {server.memory():.0f} MiB")
    print("clients   requests/s   p50 ms   p95 ms  asked again  differ  memory MiB")
    failed = False
    for clients in args.clients:
        if args.flat:
            asyncio.run(put_load(server, bodies, expected, clients, args.requests // 10, False, args.hang_up))
            before = server.memory()
        load = asyncio.run(put_load(server, bodies, expected, clients, args.requests, args.restart, args.hang_up))
        print(load.row(clients, server.memory()), flush=True)
        failed |= load.wrong > 0
        if args.flat:
            growth = server.memory() / before
            print(f"memory grew by the factor {growth:.3f} after the first {args.requests // 10} requests", flush=True)
            failed |= growth > args.flat
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
