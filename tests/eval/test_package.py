"""The package's names, and the order of its rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import at2_prune_eval

PACKAGE = Path(at2_prune_eval.__file__).parent
ROOMS = [
    "k_values",
    "records",
    "metrics",
    "loop",
    "results",
    "tables",
    "run",
    "faithfulness",
    "figures",
    "document",
    "report",
    "study",
    "commands",
]
"""Each imports only those before it. Commands import the package itself too."""


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    declared = [alias.asname for node in imports for alias in node.names]
    assert sorted(map(str, declared)) == at2_prune_eval.__all__
    for name in at2_prune_eval.__all__:
        assert getattr(at2_prune_eval, name) is not None
        assert name in dir(at2_prune_eval)


def test_importing_the_package_and_its_commands_does_not_import_torch() -> None:
    code = (
        "import sys, at2_prune_eval.commands.evaluate, at2_prune_eval.commands.demo, at2_prune_eval.commands.study; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_rooms_import_only_rooms_before_them() -> None:
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).with_suffix("").parts
        if place == ("__init__",):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level:
                target = [*place[: len(place) - node.level], *(node.module or "").split(".")]
            elif (node.module or "").startswith("at2_prune_eval."):
                target = (node.module or "").split(".")[1:]
            else:
                continue
            assert ROOMS.index(target[0]) <= ROOMS.index(place[0]), f"{path}, line {node.lineno}"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Imports that are for type checkers only count too."""
    modules = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}
    imported: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for place, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("at2_prune_eval.")):
                base = place[: len(place) - node.level] if node.level else ()
                named = (node.module or "").split(".")[0 if node.level else 1 :] if node.module else []
                target = (*base, *named)
                for alias in node.names:
                    found |= {one for one in ((*target, alias.name), target, (*target, "__init__")) if one in modules}
        imported[place] = found - {place}
    done: set[tuple[str, ...]] = set()

    def visit(module: tuple[str, ...], path: tuple[tuple[str, ...], ...]) -> None:
        assert module not in path, f"a circle: {path[path.index(module) :]}"
        if module not in done:
            for other in imported[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in modules:
        if module != ("__init__",):
            visit(module, ())
