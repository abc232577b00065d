"""Compute a digest of the code that decides a value. The key of a cached value includes this digest.

The digest covers the given modules, and every module of at2-prune that they import, directly or indirectly. Comments,
docstrings and imports for type checkers do not change a value, so the digest leaves them out.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

import at2_prune

__all__ = ["code_digest"]

_FOLDERS = {"at2_prune": Path(at2_prune.__file__).parent, "at2_prune_eval": Path(__file__).parents[1]}
"""The folders of the packages of at2-prune. Only imports of modules in these packages are followed."""


def code_digest(modules: Sequence[str], alone: Sequence[str] = ()) -> str:
    """Return a digest of the code of some modules, and of all modules of at2-prune that they import.

    Args:
        modules: the names of modules. A module of another package must have been imported already.
        alone: the names of further modules. The modules that these modules import are not followed.

    Raises:
        OSError: the source of a module cannot be read.
        TypeError: a module has no source, for example because its code was typed into an interpreter.

    Example:
        >>> code_digest(["at2_prune.bootstrap"]) == code_digest(["at2_prune.errors"])
        False
    """
    code = {name: _code(_source(name)) for name in alone}
    followed: set[str] = set()
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        if name not in followed:
            followed.add(name)
            source = _source(name)
            code[name] = _code(source)
            waiting += _imports(name, source)
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:32]


def _path(name: str) -> Path | None:
    """Return the file of a module of at2-prune, or None if there is no such module."""
    package, *parts = name.split(".")
    if package not in _FOLDERS:
        return None
    place = _FOLDERS[package].joinpath(*parts)
    files = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in files if path.is_file()), None)


def _source(name: str) -> str:
    path = _path(name)
    return inspect.getsource(sys.modules[name]) if path is None else path.read_text(encoding="utf-8")


@functools.cache
def _code(source: str) -> str:
    """Return the code of a module as text, without comments, docstrings and imports for type checkers."""
    tree = _tree(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [one for one in node.body if not _is_text(one)]
    return ast.dump(tree)


@functools.cache
def _imports(name: str, source: str) -> list[str]:
    """Return the names of the modules of at2-prune that a module imports, including imports inside functions."""
    path = _path(name)
    package = name.split(".")
    package = package if path is not None and path.name == "__init__.py" else package[:-1]
    found: list[str] = []
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            inner = [f"{module}.{alias.name}" for alias in node.names]
            found += [one if _path(one) else module for one in inner]
    return [one for one in dict.fromkeys(found) if _path(one)]


def _tree(source: str) -> ast.Module:
    tree: ast.Module = _WithoutTypes().visit(ast.parse(source))
    return tree


class _WithoutTypes(ast.NodeTransformer):
    """Removes the code that only type checkers read."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
