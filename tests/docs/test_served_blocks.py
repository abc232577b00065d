"""The README's request with curl is answered by a server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from at2_prune import AT2Pruner, PruneConfig
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.step import PruneStep
from at2_prune.server.app import create_app

from ..server.conftest import serving

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_request_with_curl(tiny_lm: LanguageModel) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("curl and bash are not installed")
    (command,) = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    pruner = AT2Pruner.from_pretrained(tiny_lm, method="bm25")
    with serving(create_app(PruneStep(PruneConfig(), pruner), None, None)) as url:
        command = command.replace("http://127.0.0.1:8080", url)
        printed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert [found["index"] for found in json.loads(printed)["results"]] == [1]
