from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("missing", "adapter", "extra"),
    [
        ("langchain_core", "langchain_at2_prune", "langchain"),
        ("llama_index.core", "llama_index.postprocessor.at2_prune", "llama-index"),
    ],
)
def test_the_error_names_the_pip_command(missing: str, adapter: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from at2_prune.errors import MissingExtraError\n"
        f"try:\n    import {adapter}\nexcept MissingExtraError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.endswith(f'which is not installed: pip install "at2-prune[{extra}]"\n'), run.stderr


def test_llama_index_stays_a_namespace() -> None:
    pytest.importorskip("llama_index.core")
    import llama_index.postprocessor.at2_prune as ours

    folder = ours.__path__[0]
    assert folder.endswith("llama_index/postprocessor/at2_prune")
    code = (
        "import llama_index, llama_index.postprocessor; print(llama_index.__file__, llama_index.postprocessor.__file__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "None None\n"
