"""The scripts that put load on a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def serve_compare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serve_compare

    return serve_compare


@pytest.mark.slow
def test_answers_under_load_are_those_of_one_client() -> None:
    """The server is killed in the middle, and clients hang up."""
    options = ["--method", "scout", "--clients", "16", "--requests", "120", "--restart", "--hang-up", "10"]
    line = [sys.executable, str(BENCHMARKS / "serve_load.py"), *options, "--passages", "4"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    clients, _, _, _, again, differ, _ = done.stdout.splitlines()[-1].split()
    assert (clients, differ) == ("16", "0")
    assert int(again) > 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell memory in /proc")
@pytest.mark.parametrize(("largest", "code"), [(1.5, 0), (0.5, 1)])
def test_growing_memory_fails(largest: float, code: int) -> None:
    options = ["--clients", "4", "--requests", "40", "--passages", "2", "--flat", str(largest)]
    done = subprocess.run([sys.executable, str(BENCHMARKS / "serve_load.py"), *options], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert "after the first 4 requests" in done.stdout.splitlines()[-1]


def test_ratios_are_those_of_one_round(serve_compare: ModuleType) -> None:
    rows = {
        (8, "cross-encoder"): [(2.0, 0.5, 1.0), (1.0, 1.0, 2.0), (4.0, 0.2, 0.4)],
        (8, "scout, kept passages"): [(4.0, 0.25, 0.25), (4.0, 0.25, 0.5), (8.0, 0.1, 0.1)],
    }
    assert (
        serve_compare.table(rows).splitlines()[-1] == "| 8 | scout, kept passages | 4 | 0.25 | 0.25 | 2 | 0.5 | 0.25 |"
    )


def test_new_documents_were_never_sent(serve_compare: ModuleType) -> None:
    sent = [text for _ in range(2) for body in serve_compare.bodies_of(3, 25, new=True) for text in body["documents"]]
    assert len({*sent}) == len(sent) == 150
    kept = [tuple(body["documents"]) for body in serve_compare.bodies_of(3, 25, new=False)]
    assert kept[:5] == kept[20:]
