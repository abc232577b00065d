"""Parity with what AT2's authors published: an estimator on the Hub, and their code. Each runs where it can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "research" / "published_parity.py"
MISSING = 77


@pytest.mark.parametrize("options", [[], ["--hub"]], ids=["reference code", "estimator on the Hub"])
def test_scores_agree_with_what_the_authors_published(options: list[str]) -> None:
    # conftest.py puts the Hub out of reach for this process; a process of its own may try
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode == MISSING:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "largest relative difference" in done.stdout
