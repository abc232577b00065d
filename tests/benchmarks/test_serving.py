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


Rows = dict[tuple[int, int, str], tuple[float, float, float]]


@pytest.fixture
def rows() -> Rows:
    """Three rounds of eight clients."""
    ways = {
        "cross-encoder": [(2.0, 0.5, 1.0), (1.0, 1.0, 2.0), (4.0, 0.2, 0.4)],
        "scout, kept passages": [(4.0, 0.25, 0.25), (4.0, 0.25, 0.5), (8.0, 0.1, 0.1)],
        "scout, new passages": [(1.0, 1.0, 2.0), (0.5, 2.0, 4.0), (2.0, 0.4, 0.8)],
    }
    return {(turn, 8, way): row for way, some in ways.items() for turn, row in enumerate(some)}


def test_ratios_are_those_of_one_round(serve_compare: ModuleType, rows: Rows) -> None:
    assert serve_compare.table(rows).splitlines()[2:] == [
        "| 8 | cross-encoder | 2 | 0.5 | 1 | 1 | 1 | 1 |",
        "| 8 | scout, kept passages | 4 | 0.25 | 0.25 | 2 [2, 4] | 0.5 [0.25, 0.5] | 0.25 [0.25, 0.25] |",
        "| 8 | scout, new passages | 1 | 1 | 2 | 0.5 [0.5, 0.5] | 2 [2, 2] | 2 [2, 2] |",
    ]


def test_measurements_are_kept_and_gone_on_from(
    serve_compare: ModuleType, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rounds.jsonl"
    done = serve_compare.Record(out, {"passages": 10})
    for key, row in list(rows.items())[:4]:
        done.add(key, row)
    asked: list[int] = []
    monkeypatch.setattr(
        serve_compare, "measure", lambda server, bodies, clients: asked.append(clients) or (1.0, 1.0, 1.0)
    )
    servers = dict.fromkeys(("cross-encoder", "scout, kept passages", "scout, new passages"))
    again = serve_compare.Record(out, {"passages": 10})
    assert again.rows == done.rows
    serve_compare.compare(servers, [8], 8, 3, 2, again)
    assert asked == [1] * 3 + [8] * 5  # three warm-ups, and what was missing
    assert serve_compare.Record(out, {"passages": 10}).rows == again.rows
    assert serve_compare.Record(out, {"passages": 20}).rows == {}


@pytest.mark.parametrize("after", ["", "\n## More\n\nMore text.\n"])
def test_the_section_is_put_into_the_page_once(
    after: str, serve_compare: ModuleType, rows: Rows, tmp_path: Path
) -> None:
    settings = {"model": "m", "cross-encoder": "c", "least": 16, "passages": 10}
    settings |= {"cores": 2, "threads": 2, "machine": "x86_64"}
    text = serve_compare.section(rows, settings)
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n## Load\n\nText.\n")
    serve_compare.write("## Against a cross-encoder\n\nan older table\n", page)
    with page.open("a") as file:
        file.write(after)
    for _ in range(2):
        serve_compare.write(text, page)
        assert page.read_text() == f"# Page\n\n## Load\n\nText.\n\n{text}{after}"


def test_new_documents_were_never_sent(serve_compare: ModuleType) -> None:
    sent = [text for _ in range(2) for body in serve_compare.bodies_of(3, 25, new=True) for text in body["documents"]]
    assert len({*sent}) == len(sent) == 150
    kept = [tuple(body["documents"]) for body in serve_compare.bodies_of(3, 25, new=False)]
    assert kept[:5] == kept[20:]
