"""Coefficients of scout that are named by their id on the Hub, read from the Hub's cache on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from at2_prune.cli.options import method_of_scout
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.loading import read_coefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients, holds_scout
from at2_prune.coefficients.shipped import shipped_coefficients
from at2_prune.errors import CoefficientsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the Hub with coefficients of each kind, `user/scout`, `user/scout_dense` and `user/at2`."""
    for method in ("scout", "scout_dense", "at2"):
        repository = tmp_path / f"models--user--{method}"
        shutil.copytree(shipped_coefficients()["gemma-3-270m"][method], repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("method", ["scout", "scout_dense"])
def test_coefficients_of_scout_are_found_by_their_id(method: str) -> None:
    found = read_coefficients("some model", None, f"user/{method}")
    assert isinstance(found, ScoutCoefficients)
    assert found.method == method
    assert method_of_scout(f"user/{method}", None) == method


def test_head_coefficients_are_still_head_coefficients() -> None:
    assert isinstance(read_coefficients("some model", None, "user/at2"), HeadCoefficients)
    assert not holds_scout("user/at2")


def test_an_unknown_id_holds_no_coefficients() -> None:
    assert not holds_scout("user/missing")
    with pytest.raises(CoefficientsError, match="user/missing"):
        read_coefficients("some model", None, "user/missing")
