from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune.errors import CacheError, DataError, InputError
from at2_prune.training import Example, ExampleStore

SETTINGS = {"model": "m", "ablations": 8, "seed": 0}


def example(question_id: str, sources: int = 3) -> Example:
    generator = torch.Generator().manual_seed(len(question_id))
    return Example(
        question_id,
        "a naïve draft\n",
        {
            "draft": torch.rand(2, 3, 4, sources, generator=generator),
            "question": torch.rand(1, 3, 4, sources, generator=generator),
        },
        [0, 2, 5],
        torch.rand(8, sources, generator=generator) < 0.5,
        torch.randn(8, 2, generator=generator).double(),
        torch.tensor([True, *[False] * (sources - 1)]),
    )


def assert_same(one: Example, other: Example) -> None:
    assert (one.question_id, one.draft, one.layers) == (other.question_id, other.draft, other.layers)
    assert set(one.mass) == set(other.mass)
    for name in one.mass:
        assert torch.equal(one.mass[name], other.mass[name])
    for name in ("masks", "outcomes", "gold"):
        a, b = getattr(one, name), getattr(other, name)
        assert torch.equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("question_id", ["q1", "a/b\\c:*?", "naïve 日本 " * 40, "", "../../escape"])
def test_round_trip(tmp_path: Path, question_id: str) -> None:
    store = ExampleStore(tmp_path / "out", SETTINGS)
    assert not store.has(question_id)
    store.add(example(question_id))
    assert store.has(question_id)
    (loaded,) = store.load([question_id])
    assert_same(loaded, example(question_id))
    assert {path.relative_to(tmp_path / "out").parts[0] for path in (tmp_path / "out").rglob("*")} == {
        "examples",
        "settings.json",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_loads_what_is_asked_for_in_that_order(tmp_path: Path) -> None:
    store = ExampleStore(tmp_path, SETTINGS)
    for name in ("a", "bb", "ccc"):
        store.add(example(name))
    again = ExampleStore(str(tmp_path), dict(reversed(SETTINGS.items())))
    assert [found.question_id for found in again.load(["ccc", "none", "a"])] == ["ccc", "a"]
    store.add(example("a", sources=7))
    (replaced,) = again.load(["a"])
    assert replaced.masks.shape == (8, 7)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"x" * 1000),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"layers"', b'"sreyal"')),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"gold"', b'"dlog"')),
    ],
)
def test_a_damaged_example_counts_as_missing(tmp_path: Path, damage: Any) -> None:
    store = ExampleStore(tmp_path, SETTINGS)
    for name in ("a", "bb"):
        store.add(example(name))
    victim = store._path("a")
    damage(victim)
    assert not store.has("a")
    assert store.has("bb")
    assert not victim.exists()
    store.add(example("a"))
    damage(victim)
    assert [found.question_id for found in store.load(["a", "bb"])] == ["bb"]


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    ExampleStore(tmp_path, SETTINGS).add(example("a"))
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(InputError) as caught:
        ExampleStore(tmp_path, {"model": "m", "ablations": 32, "granularity": "token"})
    message = str(caught.value)
    assert f"{tmp_path} was begun with other settings" in message
    for part in ("ablations: 8 there, 32 now", "granularity: None there, 'token' now", "seed: 0 there, None now"):
        assert part in message
    assert "model" not in message
    assert (tmp_path / "settings.json").read_bytes() == before
    assert ExampleStore(tmp_path, {**SETTINGS}).has("a")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b""])
def test_settings_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    ExampleStore(tmp_path, SETTINGS)
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(DataError, match=r"settings\.json: (not valid JSON|expected a JSON object|cannot be read)"):
        ExampleStore(tmp_path, SETTINGS)


def test_settings_are_compared_as_json(tmp_path: Path) -> None:
    ExampleStore(tmp_path, {"parts": (1, 2), "x": None})
    ExampleStore(tmp_path, {"parts": [1, 2], "x": None})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"parts": [1, 2], "x": None}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CacheError, match=f"cannot write to {folder}"):
            ExampleStore(folder, SETTINGS)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
def test_a_disk_that_fills_up_leaves_the_rest_whole(tmp_path: Path) -> None:
    import resource

    store = ExampleStore(tmp_path, SETTINGS)
    store.add(example("a"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CacheError, match="cannot write"):
            store.add(example("bb", sources=2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not store.has("bb")
    assert len(list((tmp_path / "examples").iterdir())) == 1
    (whole,) = store.load(["a"])
    assert_same(whole, example("a"))


def test_a_finished_store_is_opened_with_its_own_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no examples of an earlier run"):
        ExampleStore.open(tmp_path)
    store = ExampleStore(tmp_path, SETTINGS)
    for name in ("b", "a"):
        store.add(example(name))
    assert sorted(one.question_id for one in ExampleStore.open(tmp_path).every()) == ["a", "b"]
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        ExampleStore.open(tmp_path)
