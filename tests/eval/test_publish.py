"""The maintainers' script: the README's table, cards of head coefficients, archives of runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune.attention.rows import DRAFT_ROWS
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.errors import InputError
from at2_prune_eval.document.model_cards import record_evaluation
from at2_prune_eval.loop.digests import coefficients_digest
from at2_prune_eval.results.loading import load_results
from at2_prune_eval.run.archive import write_archive
from at2_prune_eval.tables.cells import estimate
from at2_prune_eval.tables.short import short_table

from .synthetic import make_records, make_results, write_run

SCRIPT = Path(__file__).parents[2] / "eval" / "publish.py"


def _publish() -> Any:
    spec = importlib.util.spec_from_file_location("publish", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


publish = _publish()


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return make_results(make_records())


def test_short_table(results: dict[str, Any], tmp_path: Path) -> None:
    path = write_run(tmp_path, [], results) / "results.json"
    done = subprocess.run([sys.executable, SCRIPT, "short-table", path], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == short_table(results) + "\n"


def test_an_evaluation_goes_into_the_card(tmp_path: Path, results: dict[str, Any]) -> None:
    coefficients = HeadCoefficients.average(2, 4, "llama")
    coefficients.save_pretrained(tmp_path / "mine")
    methods = {**results["config"]["methods"], "at2": {"coefficients": {"sha256": coefficients_digest(coefficients)}}}
    write_run(tmp_path / "run", [], {**results, "config": {**results["config"], "methods": methods}})
    path = str(tmp_path / "run" / "results.json")
    publish.main(["cards", path, str(tmp_path / "mine")])
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in card.splitlines() if line.startswith("| evaluation |")]
    at2, none = results["methods"]["at2"]["at"]["3"], results["methods"]["none"]["at"]["all"]
    difference, lds = results["paired"]["none"]["at2"]["3"]["f1"], results["faithfulness"]["passage"]["lds"]["at2"]
    for value in (at2["f1"], none["f1"], difference, at2["gold_recall"], lds):
        assert estimate(value) in line
    assert f"questions {results['n']}; k 3;" in line
    again = HeadCoefficients.from_pretrained(tmp_path / "mine")
    assert again.weight.equal(coefficients.weight)
    assert again.row_groups == (DRAFT_ROWS,)

    HeadCoefficients(coefficients.weight * 2, model_type="llama").save_pretrained(tmp_path / "other")
    before = (tmp_path / "other" / "README.md").read_bytes()
    with pytest.raises(InputError, match="the results belong to other head coefficients"):
        record_evaluation(tmp_path / "other", load_results(path))
    assert (tmp_path / "other" / "README.md").read_bytes() == before


def test_cards_are_written_again(tmp_path: Path) -> None:
    HeadCoefficients.average(2, 4, "llama").save_pretrained(tmp_path / "at2")
    layers = torch.ones(6, 1, 4), torch.ones(6, 1, 4), torch.ones(6, 1, 4), (0,), (0,)
    ScoutCoefficients(*layers).save_pretrained(tmp_path / "scout")
    for name in ("at2", "scout"):
        card = tmp_path / name / "README.md"
        written = card.read_text(encoding="utf-8")
        card.write_text("old")
        publish.main(["cards-again", str(card.parent)])
        assert card.read_text(encoding="utf-8") == written


def test_archive(results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", make_records(3), results)
    out = tmp_path / "out.tar.gz"
    publish.main(["archive", str(run), str(out)])
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_bytes() == write_archive(run, tmp_path / "again.tar.gz").read_bytes()


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing")
    for command in (
        ["short-table", missing],
        ["cards", missing, str(tmp_path)],
        ["archive", missing, str(tmp_path / "out.tar.gz")],
        ["cards-again", missing],
    ):
        with pytest.raises(SystemExit) as stopped:
            publish.main(command)
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert missing in error
        assert len(error.splitlines()) == 1
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [[], ["cards", "results.json"], ["archive", "run"]])
def test_missing_arguments(command: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        publish.main(command)
    assert stopped.value.code == 2
