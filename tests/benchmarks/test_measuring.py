"""The benchmark's arithmetic, and the page it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_ratios_of_medians_with_their_interval() -> None:
    from measuring import paired

    entered: list[bool] = []

    class Around:
        def __enter__(self) -> None:
            entered.append(True)
            time.sleep(0.02)  # not part of what is timed

        def __exit__(self, *_: object) -> None: ...

    found = paired("a / b", {"n": 1}, lambda: time.sleep(0.02), lambda: time.sleep(0.01), 5, 3.0, Around)
    assert len(entered) == 6
    assert 1 < found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(2, rel=0.6)
    assert (found.inputs["n"], found.inputs["pairs"], found.limit) == (1, 5, 3.0)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_exponents(power: float) -> None:
    from measuring import exponent

    sizes = [10.0, 40.0, 160.0]
    assert exponent(sizes, [7 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize("script", ["attribution", "documents", "memory"])
def test_every_part_of_the_scripts_can_be_imported(script: str) -> None:
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_results_are_a_list_of_lines_and_the_page_holds_the_targets(tmp_path: Path) -> None:
    from measuring import Measurement, load, save
    from performance_page import TARGETS, write_page

    good = Measurement(TARGETS[0][0], {"model": "tiny", "draft": 8}, 1.004, 0.99, 1.02, 1.01)
    bad = Measurement(TARGETS[1][0], {"model": "tiny"}, 1.2, 1.1, 1.3, 1.03)
    save([good, bad], tmp_path / "results.json")
    assert load(tmp_path / "results.json") == [good, bad]
    assert list(json.loads((tmp_path / "results.json").read_text())[0]) == [
        "name",
        "inputs",
        "ratio",
        "low",
        "high",
        "limit",
    ]
    page = write_page([good, bad], "python benchmarks/attribution.py").splitlines()
    row = next(line for line in page if line.startswith(f"| {TARGETS[0][1]} "))
    assert row.endswith("| 1.004 | [0.99, 1.02] | yes |")
    row = next(line for line in page if line.startswith(f"| {TARGETS[1][1]} "))
    assert row.endswith("| no |")
    assert sum("not measured" in line for line in page) == len(TARGETS) - 2


def test_what_is_measured_anew_takes_its_old_place() -> None:
    from measuring import Measurement, merged

    def one(name: str, passages: int, ratio: float) -> Measurement:
        return Measurement(name, {"model": "m", "passages": passages, "seconds": [ratio, 1.0]}, ratio, ratio, ratio)

    earlier = [one("a", 10, 1.0), one("a", 40, 2.0), one("b", 10, 3.0)]
    new = [one("c", 10, 4.0), one("a", 10, 5.0)]
    assert merged(earlier, new) == [new[1], earlier[1], earlier[2], new[0]]
    assert merged([], new) == new


def test_a_missed_target_is_explained_with_the_work_that_was_counted() -> None:
    from measuring import Measurement
    from performance_page import write_page

    missed = Measurement("leave-one-out: engine / lean loop", {}, 0.55, 0.5, 0.6, 1 / 3)
    work = Measurement("leave-one-out: tokens run, engine / loop", {}, 0.512, 0.512, 0.512)
    assert "0.512 of the loop's tokens" in write_page([missed, work], "")
    noisy = Measurement("drafting with attribution / generate", {}, 1.02, 0.98, 1.1, 1.01)
    assert "Missed" in write_page([noisy], "")
    assert "Counted here" not in write_page([noisy], "")  # it has no loop to be counted against
    larger = Measurement(missed.name, {"ablations": 33}, 0.6, 0.6, 0.6, 1 / 3)
    counted = Measurement(work.name, {"ablations": 33}, 0.521, 0.521, 0.521)
    fine = Measurement(missed.name, {}, 0.3, 0.3, 0.3, 1 / 3)
    assert "0.521 of the loop's tokens" in write_page([fine, work, larger, counted], "")
    assert "Missed" not in write_page([fine, work], "")


@pytest.mark.parametrize(
    ("name", "draft", "low", "excused"),
    [
        ("drafting with attribution / generate", 8, 0.99, True),
        ("drafting with attribution / generate", 8, 1.05, False),
        ("drafting with attribution / generate", 256, 1.05, True),
        ("drafting: attribution's own code / the rest", 8, 1.05, False),
        ("drafting: attribution's own code / the rest", 64, 1.05, True),
        ("random ablations: engine / plain loop", 8, 1.05, True),
        ("scoring a given draft / forward pass", 8, 1.05, False),
    ],
)
def test_what_nothing_excuses_fails(name: str, draft: int, low: float, excused: bool) -> None:
    from measuring import Measurement
    from performance_page import explained, over_limit

    missed = Measurement(name, {"draft": draft}, 1.1, low, 1.2, 1.01)
    assert over_limit(missed)
    assert explained(missed) == excused


def test_the_figure_draws_what_was_measured(tmp_path: Path) -> None:
    from measuring import Measurement, load, save
    from performance_figure import WAYS, attribution_cost, picture, seconds_by_way

    some = [
        Measurement("drafting with attribution / generate", {"model": "tiny", "seconds": [2.1, 2.0]}, 1.0, 1.0, 1.0),
        Measurement("drafting: attribution's own code / the rest", {"model": "tiny"}, 0.01, 0.01, 0.01),
        Measurement("random ablations: engine / plain loop", {"ablations": 8, "seconds": [3.0, 12.0]}, 0.25, 0.2, 0.3),
    ]
    save(some, tmp_path / "results.json")
    ways = seconds_by_way(load(tmp_path / "results.json"))
    assert [seconds for _, seconds, _ in ways] == [0.02, 3.0, 12.0]
    figure = attribution_cost(some)
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert drawn == ["0.02 s", "3 s", "12 s", "writing the draft"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["AT2, while the draft is written", "8 ablations, shared work", "8 ablations, whole passes"]
    assert "](figures/attribution_cost.png)" in picture(some, "figures")
    assert picture([], "figures") == ""
    everything = load(BENCHMARKS / "results.json")
    assert len(seconds_by_way(everything)) == len(WAYS) + 1  # the page's own picture misses none
