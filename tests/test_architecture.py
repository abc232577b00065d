"""The rooms of the package: which may import which. Imports inside functions and for type checkers count too."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "__init__",
    "errors",
    "catalogue",
    "files",
    "parsing",
    "progress",
    "processes",
    "passages",
    "bootstrap",
    "attention",
    "models",
    "encoders",
    "datasets",
    "passage_index",
    "coefficients",
    "ablation",
    "training",
    "calibration",
    "scorers",
    "pruning",
    "pipeline",
    "report",
    "server",
    "cli",
    "__main__",
)
"""The rooms of `at2_prune`, from the ground up: a room imports those before it only."""
PACKAGES = {"at2_prune": ROOT / "at2_prune", "at2_prune_eval": ROOT / "eval" / "at2_prune_eval"}


def modules(package: str) -> dict[str, Path]:
    folder = PACKAGES[package]
    names = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of this repository that a module imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                target = f"{source}.{alias.name}"
                yield from [target] if target in known else [source] if source in known else []


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


KNOWN = modules("at2_prune") | modules("at2_prune_eval")
GRAPH = {name: sorted(set(imports(name, path, KNOWN)) - {name}) for name, path in KNOWN.items()}


@pytest.mark.parametrize("name", modules("at2_prune"))
def test_a_room_imports_the_rooms_before_it_only(name: str) -> None:
    place = ROOMS.index(room_of(name))
    for target in GRAPH[name]:
        if name == "at2_prune":  # the front door: its names are imported when they are first used
            continue
        assert not target.startswith("at2_prune_eval"), f"{name} imports the evaluator: {target}"
        assert ROOMS.index(room_of(target)) <= place, f"{name} imports {target}, which stands above it"


def test_no_circles_among_modules() -> None:
    graph = {name: targets for name, targets in GRAPH.items() if name != "at2_prune"}
    doors = {name for name, path in KNOWN.items() if path.name == "__init__.py"}
    # a package's door imports its own modules, and these may import the package's folder, which is no circle of code
    inner = {
        name: [target for target in targets if not (target in doors and name.startswith(f"{target}."))]
        for name, targets in graph.items()
    }
    list(graphlib.TopologicalSorter(inner).static_order())  # raises CycleError, with the circle


def test_every_room_is_in_the_order() -> None:
    found = {room_of(name) for name in modules("at2_prune")}
    assert found == set(ROOMS) - {"__init__"} | {"__init__"}


def test_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    rooms = {path.name for path in (ROOT / "at2_prune").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= folders
    assert folders - rooms == {"benchmarks", "docs", "eval", "integrations", "packaging", "research"}
