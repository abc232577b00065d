"""Parity with what AT2's authors published: an estimator on the Hub, and their code. Each runs where it can be had."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from huggingface_hub import constants

ROOT = Path(__file__).parents[2]
MISSING = 77
"""The exit code of the script if what it needs is missing."""


def run(*options: str) -> None:
    # conftest.py puts the Hub out of reach for this process; a process of its own may try
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "research" / "published_parity.py"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode == MISSING:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "largest relative difference" in done.stdout


def test_scores_agree_with_the_authors_code() -> None:
    if find_spec("at2") is None:
        pytest.skip("the reference code is not installed: pip install at2, into an environment of its own")
    run()


def test_scores_agree_with_a_published_estimator() -> None:
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=5).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError as error:
        pytest.skip(f"the Hub cannot be reached, so no published estimator can be compared: {error}")
    run("--hub")
