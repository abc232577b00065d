"""docs/hotpotqa/results.md holds every number once more, claims only differences that the intervals show, and is the
same each time."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from at2_prune.catalogue import label_of, learned_methods
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.coefficients.shipped import shipped_coefficients
from at2_prune.errors import DataError, InputError
from at2_prune.scorers import DenseScorer
from at2_prune_eval.commands.evaluate import add_arguments
from at2_prune_eval.document.__main__ import main
from at2_prune_eval.document.page import results_document
from at2_prune_eval.document.writing import write_document
from at2_prune_eval.figures import write_figures
from at2_prune_eval.loop.digests import coefficients_digest
from at2_prune_eval.loop.identity import describe_scorer
from at2_prune_eval.results.loading import load_results
from at2_prune_eval.tables.cells import estimate
from at2_prune_eval.tables.settings import OFFLINE_EMBEDDER, run_command
from at2_prune_eval.tables.short import short_table

from ..synthetic import KS, METHODS, make_records, make_results, write_run


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return make_results(make_records())


def section(text: str, heading: str) -> str:
    start = text.index(f"\n{heading}\n")
    level = heading.split(" ")[0]
    following = re.search(rf"\n#{{1,{len(level)}}} ", text[start + len(heading) :])
    return text[start : start + len(heading) + following.start() if following else None]


def rows(text: str) -> dict[tuple[str, ...], list[str]]:
    """Rows of the tables by their first two cells."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return {tuple(row[:2]): row for row in cells}


def test_every_number_is_on_the_page(results: dict[str, Any]) -> None:
    text = results_document(results)
    answers, kept = rows(section(text, "### Answers")), rows(section(text, "### Passages kept"))
    for name, method in results["methods"].items():
        for k, entry in method["at"].items():
            key = (label_of(name), k)
            assert answers[key][2:] == [estimate(entry[metric]) for metric in ("f1", "em", "precision", "recall")]
            metrics = ("gold_precision", "gold_recall", "gold_f1", "both_gold")
            assert kept[key][2:6] == [estimate(entry[metric]) for metric in metrics]
    for reference, title in (("none", "no pruning"), ("at2", "AT2 at the same k")):
        part = section(text, f"## Difference in F1 to {title}").replace("**", "")
        for name in METHODS:
            if name != reference:
                for k in KS:
                    assert estimate(results["paired"][reference][name][str(k)]["f1"], "+") in part
    for unit in ("passage", "sentence"):
        part = section(text, f"### {unit.capitalize()}s")
        found = results["faithfulness"][unit]
        assert (
            "60 questions (left out: 2 empty draft), 32 ablations each. Answers are written from the best 2 sources"
            in part
        )
        for value in (*found["lds"].values(), *(drop["3"] for drop in found["top_k_drop"].values())):
            assert estimate(value) in part
    assert "05f38ab71ed825a7" in section(text, "## The run")
    costs = section(text, "## Cost of choosing")
    assert all(f"`{name}`" in costs for name in METHODS)
    assert (
        f"Writing the draft and reading its attention takes {estimate(results['draft']['seconds'], decimals=2)}"
        in costs
    )


def test_bold_is_never_inside_the_noise(results: dict[str, Any]) -> None:
    text = results_document(results)
    bold = re.findall(r"\*\*([+-]\d\.\d+)\*\* \[([+-]\d\.\d+), ([+-]\d\.\d+)\]", text)
    assert bold
    assert all(float(low) >= 0 or float(high) <= 0 for _, low, high in bold)
    flat = {"f1": {"mean": 0.1, "low": -0.1, "high": 0.3}}
    paired = {
        one: {name: dict.fromkeys(ks, flat) for name, ks in some.items()} for one, some in results["paired"].items()
    }
    noise = results_document({**results, "paired": paired, "faithfulness": None})
    assert "**" not in noise
    assert "↑" not in section(noise, "## Answer F1").split("\n| ", 1)[1]
    assert noise.count("the 95 % interval of every difference contains 0") == 2
    assert f"({len(METHODS) * len(KS)} comparisons; N = 40. By chance alone, 4.8 intervals on average would" in noise


def test_short_table_has_a_row_a_method(results: dict[str, Any]) -> None:
    table, line = short_table(results).split("\n\n")
    assert len(table.splitlines()) == len(METHODS) + 2
    bm25 = next(line for line in table.splitlines() if line.startswith("| BM25 "))
    assert bm25.endswith(" 0.38 |")  # 160 tokens and 120 a passage, of 1,360 with all ten
    assert f"N = 40, {len(METHODS) * len(KS)} comparisons" in line
    assert estimate(results["methods"]["oracle"]["at"]["gold"]["f1"]) in line


def test_what_was_not_measured_is_left_out() -> None:
    text = results_document(make_results(make_records(6, ("bm25",), (2,)), faithfulness=False))
    assert "## Faithfulness" not in text
    assert "AT2" not in text
    assert "k = 2" in text


def test_a_run_with_the_scout_of_version_0_1_says_so(results: dict[str, Any]) -> None:
    assert "version 0.1" not in results_document(results)
    for coefficients, told in (({"row_groups": ["question"]}, True), ({"layers": [3, 5]}, False)):
        earlier = json.loads(json.dumps(results))
        earlier["config"]["methods"]["scout"] = {"coefficients": {**coefficients, "sha256": "0"}}
        assert ("Scout is here the form of version 0.1" in results_document(earlier)) == told


def test_command_writes_the_page_and_copies_figures(results: dict[str, Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [], results)
    (run / "figures").mkdir()
    for name in ("f1_by_k.png", "f1_by_k.svg", "coefficients_at2.png", "notes.txt"):
        (run / "figures" / name).write_bytes(name.encode())
    command = [str(run / "results.json"), str(tmp_path / "docs" / "results.md")]
    with pytest.raises(SystemExit, match="2"):  # a folder is made for --out alone
        main(command)
    assert not (tmp_path / "docs").exists()
    (tmp_path / "docs").mkdir()
    main(command)
    text = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "docs" / "figures").iterdir()} == {
        "f1_by_k.png",
        "f1_by_k.svg",
        "coefficients_at2.png",
    }
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (tmp_path / "docs" / target).is_file()
    assert text.count("![") == 2
    assert str(tmp_path) not in text
    assert json.loads((tmp_path / "docs" / "results.json").read_text(encoding="utf-8")) == results
    again = write_document(run / "results.json", tmp_path / "docs" / "results.md")
    assert again.read_text(encoding="utf-8") == text


def test_the_page_and_the_findings_are_those_of_the_committed_results() -> None:
    root = Path(__file__).parents[3]
    results = load_results(root / "docs" / "hotpotqa" / "results.json")
    page = (root / "docs" / "hotpotqa" / "results.md").read_text(encoding="utf-8")
    command = re.findall(r"by `(python -m at2_prune_eval.document [^`]*)`", page)[0]
    figures = [f"figures/{path.name}" for path in sorted((root / "docs" / "hotpotqa" / "figures").glob("*.png"))]
    shown = {*re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)}
    wanted = {
        "f1_by_k",
        "f1_by_cost",
        *(f"coefficients_{name}" for name in learned_methods() if name in results["methods"]),
    }
    assert shown == {
        f"figures/{name}.png" for name in wanted | ({"faithfulness"} if results["faithfulness"] else set())
    }
    assert results_document(results, figures, command) == page
    table, _ = short_table(results).split("\n\n")
    assert table in (root / "docs" / "findings.md").read_text(encoding="utf-8")


def test_results_of_a_method_that_was_removed_are_drawn(results: dict[str, Any], tmp_path: Path) -> None:
    """An earlier run may hold a method that the catalogue no longer knows, or never knew."""
    text = json.dumps(results)
    for name, label in (("prompt_scout", "Scout, one prompt"), ("some_old_method", "some old method")):
        earlier = json.loads(text.replace('"at2"', f'"{name}"'))
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(earlier))
        page = write_document(folder / "results.json", folder / "results.md").read_text(encoding="utf-8")
        assert f"| {label} | `{name}` |" in page
        assert name in run_command(earlier)
        drawn = {path.name: path for path in write_figures(earlier, None, folder / "figures")}
        assert label in drawn["f1_by_k.svg"].read_text(encoding="utf-8")


def test_a_page_is_not_written_over_its_own_results(results: dict[str, Any], tmp_path: Path) -> None:
    path = write_run(tmp_path, [], results) / "results.json"
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"ends with \.md"):
        write_document(path, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "cannot be read"), ("[]", "format 'list'"), ('{"format": 1}', "format 1")]
)
def test_other_files_are_refused(
    content: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(DataError, match=problem):
        write_document(path, tmp_path / "out.md")
    with pytest.raises(SystemExit) as stopped:
        main([str(path), str(tmp_path / "out.md")])
    assert stopped.value.code == 2
    assert str(path) in capsys.readouterr().err


def test_data_names_cannot_break_a_table(results: dict[str, Any]) -> None:
    config = json.loads(json.dumps(results["config"]))
    config["data"]["name"] = "a | b\n<script>"
    lines = results_document({**results, "config": config}).splitlines()
    assert "| Data | a \\| b &lt;script> (sha256 of the questions used 05f38ab71ed825a7) |" in lines


def test_the_command_of_a_run_asks_for_the_same(results: dict[str, Any]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    config = results["config"]
    learned = {"coefficients": {"row_groups": ["draft-contribution"], "sha256": "0"}}
    config = {**config, "methods": {**config["methods"], "mine": learned}}

    def ask(config: dict[str, Any], **results: Any) -> argparse.Namespace:
        return parser.parse_args(shlex.split(run_command({"config": config, **results}))[2:])

    asked = ask(config)
    data = config["data"]
    for name in ("split", "limit", "seed", "shuffle_passages"):
        assert getattr(asked, name) == data[name]
    assert (asked.data, asked.offset, asked.type) == (data["name"], 0, data["types"])
    assert (asked.k, asked.methods, asked.coefficients) == (list(KS), list(METHODS), ["mine=DIR"])
    assert (asked.model, asked.dtype, asked.max_new_tokens) == ("gemma-3-270m", "bfloat16", 48)
    other = {**config, "data": {**data, "offset": 100, "types": None}, "ks": [1, "auto"], "max_new_tokens": 9}
    asked = ask(other)
    assert (asked.offset, asked.type, asked.k, asked.max_new_tokens) == (100, None, [1, "auto"], 9)
    methods = {
        "at2": learned,
        "fusion": {"attention": {"name": "scout", **learned}},
        "dense": {"embedder": "a/b"},
        "cross_encoder": {"model": "c"},
    }
    mine = {**config, "data": {**data, "ids": "ids.txt"}, "methods": methods}
    asked = ask(mine)
    assert (asked.ids, asked.embedder, asked.cross_encoder) == ("ids.txt", "a/b", "c")
    assert (asked.methods, asked.coefficients) == (list(methods), ["at2=DIR", "scout=DIR"])
    packaged = {
        **{
            name: {"coefficients": {"sha256": coefficients_digest(load(shipped_coefficients()["gemma-3-270m"][name]))}}
            for name, load in (("at2", HeadCoefficients.from_pretrained), ("scout", ScoutCoefficients.from_pretrained))
        },
        "dense": {"embedder": OFFLINE_EMBEDDER},
        "scout_dense": {"embedder": "BAAI/bge-small-en"},
    }
    asked = ask({**config, "methods": packaged})
    assert (asked.methods, asked.coefficients, asked.embedder) == (list(packaged), [], None)
    fused = {"fusion": {"attention": {"name": "bm25"}, "fallback": {"name": "dense", "embedder": "a/b"}}}
    assert ask({**config, "methods": fused}).embedder == "a/b"
    asked = ask({**config, "data": {"name": "sample_questions.jsonl"}}, skipped={"no answer": 2})
    assert (asked.data, asked.skip_invalid) == (None, True)
    assert not ask(config, skipped={}).skip_invalid
    switched = {"config": {**config, "environment": {"TRANSFORMERS_SDPA_FORCE_GQA": "1"}}}
    assert run_command(switched) == f"TRANSFORMERS_SDPA_FORCE_GQA=1 {run_command({'config': config})}"
    measured = {"passage": {"n": 9, "left_out": {"empty draft": 1}}}
    asked = ask(config, faithfulness=measured)
    assert (asked.faithfulness, asked.sentences) == (10, None)


def test_the_packaged_embedder_is_recorded_as_such() -> None:
    assert describe_scorer(DenseScorer())["embedder"] == OFFLINE_EMBEDDER
