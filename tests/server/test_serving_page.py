"""The snippets of docs/serving.md run, and its tables are complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import httpx

from at2_prune import AT2Pruner
from at2_prune.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8080"


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_the_request_with_curl(serve, bm25: AT2Pruner) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("curl and bash are not installed")
    url, _ = serve(bm25)
    command = snippet("bash").replace(ADDRESS, url)
    printed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert len(json.loads(printed)["results"]) == 2


def test_the_request_with_python(serve, bm25: AT2Pruner) -> None:
    url, _ = serve(bm25)
    names: dict[str, Any] = {}
    exec(snippet("python").replace(ADDRESS, url), names)
    pruned = names["pruned"]
    assert (len(pruned["kept"]), len(pruned["dropped"])) == (2, 1)
    assert isinstance(pruned["answer"], str)


def test_the_page_names_every_endpoint_and_limit(serve, bm25: AT2Pruner, capsys: pytest.CaptureFixture[str]) -> None:
    url, _ = serve(bm25)
    for path in httpx.get(f"{url}/openapi.json").json()["paths"]:
        assert f"{path}`" in PAGE
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    for option in re.findall(r"--(?:max-(?!tokens|new)[a-z-]+|timeout)", capsys.readouterr().out):
        assert option in PAGE
