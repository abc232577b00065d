"""The catalogue is the one place that declares methods, and it holds for the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import get_args

import pytest

from at2_prune import PruneConfig
from at2_prune.catalogue import (
    DEFAULT_METHOD,
    FAMILIES,
    METHODS,
    REFERENCES,
    by_family,
    configurable_methods,
    learned_methods,
    method_table,
    scoring_methods,
)
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.scorers import Scorer, ScorerOptions, make_scorer
from at2_prune.training.collect import LearnFrom
from at2_prune.training.trainer import PROCEDURES


@pytest.mark.parametrize("name", scoring_methods())
def test_every_method_that_scores_has_its_class(name: str) -> None:
    coefficients = {one: HeadCoefficients.average(2, 4) for one in learned_methods()}
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
        if "--learn-from" in options:
            assert options[options.index("--learn-from") + 1] in PROCEDURES
    assert set(PROCEDURES) == set(get_args(LearnFrom))


def test_configs_take_the_configurable_methods_and_no_other() -> None:
    for name in METHODS:
        if name in configurable_methods():
            reranker = "some/reranker" if name == "cross_encoder" else None
            assert PruneConfig(method=name, cross_encoder=reranker).method == name
        else:
            with pytest.raises(ValueError, match="method must be"):
                PruneConfig(method=name)


def test_the_table_names_every_method() -> None:
    table = method_table()
    assert all(f"| `{name}` |" in table for name in scoring_methods())
    assert all(f"`{name}`" not in table for name in REFERENCES)


@pytest.mark.parametrize("modules", [("torch", "transformers")])
def test_importing_it_is_light(modules: Sequence[str]) -> None:
    code = f"import sys, at2_prune.catalogue; print([m for m in {modules!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
