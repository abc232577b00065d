"""The example store: a folder with one safetensors file per question, and with the settings that determine examples."""

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
from safetensors.torch import save

from ..errors import CacheError, DataError, InputError
from ..files import read_text, user_path, write_atomically
from ..parsing import ParseError, parse_json

__all__ = ["Example", "ExampleStore", "check_store"]

SETTINGS_FILE = "settings.json"
MASS = "mass."
"""The prefix in the name of a tensor that holds attention mass. The name of the row group follows the prefix."""


COSINE = "cosine"
"""The entry of `Example.mass` that holds the cosines of an embedder."""


@dataclass(frozen=True)
class Example:
    """The training data from one question."""

    question_id: str
    draft: str
    mass: Mapping[str, torch.Tensor]
    """Attention mass by the name of the row group, `(parts, layers, heads, sources)` float32. A part is the whole
    draft or one sentence of the draft. Only row groups with the draft's rows can have several parts. Other row groups
    have one part. The examples of scout hold features instead of attention mass; see
    `at2_prune.training.scout_examples`."""
    layers: list[int]
    """The indices of the layers whose attention was read."""
    masks: torch.Tensor
    """`(ablations, sources)` bool, True where a source is kept."""
    outcomes: torch.Tensor
    """The log-odds of each target under each ablation, `(ablations, parts)` float64."""
    gold: torch.Tensor
    """`(sources,)` bool, True where the source belongs to a supporting passage."""

    @property
    def cosines(self) -> torch.Tensor | None:
        """The cosine of each source, `(sources,)`, or None if the example has none."""
        return self.mass[COSINE].flatten() if COSINE in self.mass else None


def check_store(folder: str | os.PathLike[str]) -> None:
    """Raise `InputError` unless this folder holds the example store of an earlier run."""
    if not (user_path(folder) / SETTINGS_FILE).is_file():
        raise InputError(
            f"{folder} holds no examples of an earlier run ({SETTINGS_FILE} is missing): set `examples` to the --out "
            "folder of that run, or do not set it"
        )


class ExampleStore:
    """A folder of training examples. A run that was interrupted finds its finished examples in the folder.

    Args:
        folder: the folder. It is made if it does not exist.
        settings: all settings that determine an example, as JSON values.

    Raises:
        InputError: the folder holds examples with other settings. The message names every difference.
        DataError: the folder's settings cannot be read.
        CacheError: the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.folder = user_path(folder)
        path = self.folder / SETTINGS_FILE
        settings = json.loads(json.dumps(settings))
        try:
            (self.folder / "examples").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"cannot write to {self.folder}: {error}") from error
        known = _read_settings(path) if path.exists() else None
        if not path.exists():
            write_atomically(path, json.dumps(settings, indent=2) + "\n")
        elif not isinstance(known, dict):
            raise DataError(f"{path}: expected a JSON object, got {type(known).__name__}")
        elif known != settings:
            keys = sorted(k for k in {*known, *settings} if known.get(k) != settings.get(k))
            difference = "; ".join(f"{k}: {known.get(k)!r} there, {settings.get(k)!r} now" for k in keys)
            raise InputError(f"{self.folder} was begun with other settings ({difference}); use another folder")

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> ExampleStore:
        """Open the store of an earlier run, with the settings of that run.

        Raises:
            InputError: the folder holds no examples of an earlier run.
            DataError: the folder's settings cannot be read.
        """
        check_store(folder)
        return cls(folder, _read_settings(user_path(folder) / SETTINGS_FILE))

    def every(self) -> Iterator[Example]:
        """Yield all examples, in an order that depends only on the ids of their questions."""
        for path in sorted((self.folder / "examples").glob("*.safetensors")):
            yield from self.read(path)

    def has(self, question_id: str) -> bool:
        """Return whether the store holds a readable example of this question. A damaged file is removed."""
        return next(self.load([question_id]), None) is not None

    def add(self, example: Example) -> None:
        """Write an example. An earlier example of the same question is replaced.

        Raises:
            CacheError: the file cannot be written. An earlier example is not lost.
        """
        tensors = {f"{MASS}{name}": mass.contiguous() for name, mass in example.mass.items()}
        tensors |= {"masks": example.masks, "outcomes": example.outcomes, "gold": example.gold}
        metadata = {"id": example.question_id, "draft": example.draft, "layers": json.dumps(example.layers)}
        write_atomically(self._path(example.question_id), save(tensors, metadata))

    def load(self, question_ids: Sequence[str]) -> Iterator[Example]:
        """Yield the examples of these questions, in the order of the questions.

        A question without an example is skipped. A damaged file is removed, and its question is skipped.
        """
        for question_id in question_ids:
            yield from self.read(self._path(question_id))

    def read(self, path: Path) -> Iterator[Example]:
        """Yield the example in this file, or nothing if the file is missing. A damaged file is removed."""
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            yield Example(
                metadata["id"],
                metadata["draft"],
                {key.removeprefix(MASS): value for key, value in tensors.items() if key.startswith(MASS)},
                json.loads(metadata["layers"]),
                tensors["masks"],
                tensors["outcomes"],
                tensors["gold"],
            )
        except (SafetensorError, KeyError, TypeError, ValueError):
            path.unlink()

    def _path(self, question_id: str) -> Path:
        return self.folder / "examples" / f"{hashlib.sha256(question_id.encode()).hexdigest()[:24]}.safetensors"


def _read_settings(path: Path) -> Any:
    try:
        return parse_json(read_text(path))
    except ParseError as error:
        raise DataError(f"{path}: not valid JSON ({error}); use another folder") from None
