"""docs/scale.md has the output of the command that computes it, and a file that Ray Serve accepts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def printed(*options: str) -> str:
    line = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), *options]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def test_the_page_has_the_tables_of_the_command() -> None:
    assert printed() in PAGE


def test_twice_the_tokens_take_twice_the_disk() -> None:
    assert "| 100,000,000 | 12.9 TB |" in printed()
    assert "| 100,000,000 | 25.9 TB |" in printed("--tokens", "260")


def test_the_deployment_file_is_valid() -> None:
    pytest.importorskip("ray", reason='pip install "at2-prune[ray]"')
    from ray.serve.schema import ServeDeploySchema

    from at2_prune.server.ray_app import build

    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    deployed = ServeDeploySchema.model_validate(yaml.safe_load(text))
    (application,) = deployed.applications
    assert application.import_path == f"{build.__module__}:build"
    build(application.args)
