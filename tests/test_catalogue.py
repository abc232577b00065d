"""The catalogue is the one place that declares methods, and it holds for the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from at2_prune import AT2Pruner, PruneConfig
from at2_prune.attention.rows import RowGroup
from at2_prune.catalogue import (
    DEFAULT_EMBEDDER,
    DEFAULT_METHOD,
    FAMILIES,
    METHODS,
    REFERENCES,
    REMOVED,
    by_family,
    configurable_methods,
    label_of,
    learned_methods,
    method_table,
    scoring_methods,
)
from at2_prune.cli import main
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import CosineFeature, ScoutCoefficients
from at2_prune.errors import InputError
from at2_prune.scorers import Scorer, ScorerOptions, make_scorer
from at2_prune.training.collect import LearnFrom
from at2_prune.training.trainer import PROCEDURES


@pytest.mark.parametrize("name", scoring_methods())
def test_every_method_that_scores_has_its_class(name: str, scout_coefficients: ScoutCoefficients) -> None:
    heads = {one: HeadCoefficients.average(2, 4) for one in learned_methods() if not METHODS[one].uses_index}
    dense = replace(scout_coefficients, cosine=CosineFeature(1.0, 1.0, "some/encoder", ()))
    coefficients = {**heads, "scout": scout_coefficients, "scout_dense": dense}
    scorer = make_scorer(name, ScorerOptions(coefficients, embedder="some/encoder", cross_encoder="some/reranker"))
    assert isinstance(scorer, Scorer)
    assert scorer.name == name


def test_entries_are_whole() -> None:
    assert len({info.label for info in METHODS.values()}) == len(METHODS)
    for name, info in METHODS.items():
        assert info.name == name
        assert info.family in FAMILIES
        assert info.score.endswith(".")
        assert info.coefficients in ("", *learned_methods())
        assert bool(info.scorer) != (name in REFERENCES)
        assert info.configurable <= bool(info.scorer)
    assert METHODS[DEFAULT_METHOD].configurable
    assert sorted(name for names in by_family(METHODS).values() for name in names) == sorted(scoring_methods())


def test_training_options_name_what_train_knows() -> None:
    for name in learned_methods():
        options = METHODS[name].train
        if METHODS[name].train_command == "train-scout":
            assert options in ((), ("--embedder", DEFAULT_EMBEDDER))
            continue
        assert [*options[:1]] in ([], ["--rows"])
        assert all(RowGroup.from_name(group).rows == "draft" for group in options[1:])
    assert set(PROCEDURES) == set(get_args(LearnFrom))


def test_configs_take_the_configurable_methods_and_no_other() -> None:
    for name in METHODS:
        if name in configurable_methods():
            reranker = "some/reranker" if name == "cross_encoder" else None
            assert PruneConfig(method=name, cross_encoder=reranker).method == name
        else:
            with pytest.raises(ValueError, match="method must be"):
                PruneConfig(method=name)


@pytest.mark.parametrize("name", REMOVED)
def test_a_method_that_was_removed_is_refused_with_what_replaces_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert name not in METHODS
    advice = REMOVED[name].advice
    with pytest.raises(InputError) as refused:
        make_scorer(name)
    assert str(refused.value) == advice
    with pytest.raises(InputError) as refused:
        PruneConfig(method=name)
    assert str(refused.value) == f"method={name!r}: {advice}"
    with pytest.raises(InputError) as refused:
        PruneConfig.load(environ={"AT2_PRUNE_METHOD": name})
    assert str(refused.value) == f"environment variable AT2_PRUNE_METHOD={name!r}: {advice}"
    with pytest.raises(InputError) as refused:
        AT2Pruner.from_pretrained(method=name)
    assert str(refused.value) == advice
    monkeypatch.chdir(tmp_path)
    Path("passages.json").write_text('["Ghent is a city."]')
    HeadCoefficients.average(18, 4, "gemma3_text").save_pretrained("at2")
    for command in (
        ["answer", "Who?", "--passages", "passages.json", "--method", name],
        ["eval", "--methods", name, "--out", "x"],
        ["eval", "--coefficients", f"{name}=at2", "--out", "x"],
    ):
        assert main(command) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert advice in line
    assert not Path("x").exists()


def test_results_of_a_method_that_was_removed_keep_its_label() -> None:
    assert label_of("prompt_scout") == "Scout, one prompt"
    assert by_family(["bm25", "prompt_scout", "fusion", "my_method"]) == {
        "retrieval": ["bm25"],
        "learned": ["fusion", "prompt_scout"],
        "other": ["my_method"],
    }


def test_the_table_names_every_method() -> None:
    table = method_table()
    assert all(f"| `{name}` |" in table for name in scoring_methods())
    assert all(f"`{name}`" not in table for name in (*REFERENCES, *REMOVED))


@pytest.mark.parametrize("modules", [("torch", "transformers")])
def test_importing_it_is_light(modules: Sequence[str]) -> None:
    code = f"import sys, at2_prune.catalogue; print([m for m in {modules!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
