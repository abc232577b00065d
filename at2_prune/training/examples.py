"""Training examples on disk: one safetensors file a question, written whole or not at all, and the run's settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import CacheError, DataError, InputError

__all__ = ["Example", "ExampleStore"]

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Example:
    """What one question contributes to training."""

    question_id: str
    draft: str
    mass: Mapping[str, torch.Tensor]
    """By row group: `(parts, layers, heads, sources)` float32; prompt rows have one part."""
    layers: list[int]
    masks: torch.Tensor
    """`(ablations, sources)` bool, True where kept."""
    outcomes: torch.Tensor
    """`(ablations, parts)` float64 log-odds."""
    gold: torch.Tensor
    """`(sources,)` bool: is the source in a supporting passage."""


class ExampleStore:
    """A folder of examples that an interrupted run can go on with.

    Args:
        folder: made if it is not there.
        settings: everything that shapes an example; a folder that was begun with others is refused.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        path = self.folder / SETTINGS_FILE
        settings = json.loads(json.dumps(settings))
        try:
            (self.folder / "examples").mkdir(parents=True, exist_ok=True)
            if path.exists():
                known = json.loads(path.read_text(encoding="utf-8"))
                if not isinstance(known, dict):
                    raise DataError(f"{path}: expected a JSON object, got {type(known).__name__}")
                if known != settings:
                    keys = sorted(k for k in {*known, *settings} if known.get(k) != settings.get(k))
                    difference = "; ".join(f"{k}: {known.get(k)!r} there, {settings.get(k)!r} now" for k in keys)
                    raise InputError(f"{self.folder} was begun with other settings ({difference}); use another folder")
            else:
                self._write(path, lambda to: to.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not valid JSON ({error})") from None
        except OSError as error:
            raise CacheError(f"cannot write to {self.folder}: {error}") from error

    def has(self, question_id: str) -> bool:
        """Whether its example is there and can be read; a damaged one is removed, so that it is made anew."""
        return next(self.load([question_id]), None) is not None

    def add(self, example: Example) -> None:
        tensors = {f"mass.{name}": mass.contiguous() for name, mass in example.mass.items()}
        tensors |= {"masks": example.masks, "outcomes": example.outcomes, "gold": example.gold}
        metadata = {"id": example.question_id, "draft": example.draft, "layers": json.dumps(example.layers)}
        self._write(self._path(example.question_id), lambda to: save_file(tensors, to, metadata))

    def load(self, question_ids: Sequence[str]) -> Iterator[Example]:
        """The examples of these questions that are there, in this order; a damaged file is removed and left out."""
        for question_id in question_ids:
            yield from self.read(self._path(question_id))

    def read(self, path: Path) -> Iterator[Example]:
        """The example in this file; none if it is not there, or damaged and so removed."""
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            yield Example(
                metadata["id"],
                metadata["draft"],
                {key.removeprefix("mass."): value for key, value in tensors.items() if key.startswith("mass.")},
                json.loads(metadata["layers"]),
                tensors["masks"],
                tensors["outcomes"],
                tensors["gold"],
            )
        except (SafetensorError, KeyError, TypeError, ValueError):
            path.unlink()

    def _path(self, question_id: str) -> Path:
        return self.folder / "examples" / f"{hashlib.sha256(question_id.encode()).hexdigest()[:24]}.safetensors"

    @staticmethod
    def _write(path: Path, write: Any) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            write(temporary)
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:  # the second on a full disk
            raise CacheError(f"cannot write {path}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
