"""Every public name is documented: a first line that is a sentence, its arguments, its errors, an example."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    "at2_prune": "torch",
    "at2_prune.errors": "torch",
    "at2_prune.pipeline": "torch",
    "at2_prune.scorers": "torch",
    "at2_prune_eval": "evaluate",
    "langchain_at2_prune": "langchain_core",
    "llama_index.postprocessor.at2_prune": "llama_index.core",
    "haystack_at2_prune": "haystack",
}
"""Each public module, and a package that it needs."""
WITH_EXAMPLE = ("at2_prune", "langchain_at2_prune", "llama_index.postprocessor.at2_prune", "haystack_at2_prune")
"""The modules a user imports first: each of their names has an example."""


def public(module: str) -> Iterator[tuple[str, Any]]:
    pytest.importorskip(MODULES[module])
    found = importlib.import_module(module)
    for name in found.__all__:
        if callable(getattr(found, name)):
            yield name, getattr(found, name)


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods that this project's classes define."""
    fields = getattr(cls, "__dataclass_fields__", {})
    for name, value in vars(cls).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(function) and name not in fields:
            yield f"{cls.__name__}.{name}", function


def problems(name: str, found: Any) -> list[str]:
    text = found.__doc__ or ""
    first = text.strip().split("\n\n")[0]
    if not re.match(r"[A-Z`]", first) or not re.search(r"[.:]$", first):
        return [f"{name}: the first line is no sentence: {first[:60]!r}"]
    if not inspect.isfunction(found) or len(inspect.signature(found).parameters) < 4:
        return []
    points_elsewhere = re.search(r"Do the same as|See `\w+` for the arguments", text)
    return [] if "Args:" in text or points_elsewhere else [f"{name}: no Args"]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    wrong = []
    for name, found in public(module):
        wrong += problems(name, found)
        if inspect.isclass(found):
            wrong += [problem for one in methods(found) for problem in problems(*one) if not overrides(found, one[0])]
    assert wrong == []


def overrides(cls: type, name: str) -> bool:
    """Return whether a method overrides one with a docstring, or is one of a protocol that its module defines."""
    module = vars(importlib.import_module(cls.__module__)).values()
    protocols = [other for other in module if getattr(other, "_is_protocol", False)]
    bases = [*cls.__mro__[1:-1], *protocols]
    return any(getattr(getattr(base, name.split(".")[1], None), "__doc__", None) for base in bases)


@pytest.mark.parametrize("module", WITH_EXAMPLE)
def test_the_names_imported_first_have_an_example(module: str) -> None:
    assert [name for name, found in public(module) if "Example" not in (found.__doc__ or "")] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_shows_every_public_name(module: str) -> None:
    shown = {line.removeprefix("::: ").strip() for line in reference()}
    missing = []
    for name, found in public(module):
        place = f"{found.__module__}.{found.__name__}" if hasattr(found, "__name__") else name
        if place not in shown:
            missing.append(place)
    assert missing == []


def reference() -> list[str]:
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    return [line for page in pages for line in page.read_text(encoding="utf-8").splitlines() if line[:4] == "::: "]
