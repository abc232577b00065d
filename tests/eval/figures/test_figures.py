"""Figures show the numbers they are given, are the same bytes each time, and keep their text legible and apart."""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.errors import InputError, MissingExtraError

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.text import Text  # noqa: E402

from at2_prune.catalogue import label_of  # noqa: E402
from at2_prune_eval.figures import (  # noqa: E402
    all_figures,
    coefficients_figure,
    f1_by_cost_figure,
    f1_by_k_figure,
    faithfulness_figure,
    svg,
    write_figures,
)
from at2_prune_eval.figures.style import SIZE, spread  # noqa: E402

from ..synthetic import KS, METHODS, WITHOUT_DRAFT, make_records, make_results  # noqa: E402


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return make_results(make_records())


@pytest.fixture(scope="module")
def coefficients() -> HeadCoefficients:
    weight = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    return HeadCoefficients(weight, [RowGroup("draft"), RowGroup("question", "max")])


def texts(figure: Any) -> list[Any]:
    """What is drawn: matplotlib keeps labels of ticks that are outside the axes too."""
    figure.canvas.draw()
    beyond = {
        text
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for text in (tick.label1, tick.label2)
    }
    return [
        text for text in figure.findobj(Text) if text not in beyond and text.get_visible() and text.get_text().strip()
    ]


def check_legible(figure: Any, labels: set[str]) -> None:
    """No text is small, none leaves the figure, no two of these labels overlap."""
    found = texts(figure)
    assert min(text.get_fontsize() for text in found) >= SIZE >= 8
    boxes = [text.get_window_extent() for text in found]
    width, height = figure.canvas.get_width_height()
    for text, box in zip(found, boxes, strict=True):
        assert box.x0 >= -0.5, text
        assert box.y0 >= -0.5, text
        assert box.x1 <= width + 0.5, text
        assert box.y1 <= height + 0.5, text
    named = [(text, box) for text, box in zip(found, boxes, strict=True) if text.get_text() in labels]
    for (one, box), (other, second) in itertools.combinations(named, 2):
        apart = box.x1 <= second.x0 or second.x1 <= box.x0 or box.y1 <= second.y0 + 1 or second.y1 <= box.y0 + 1
        assert apart, (one, other)


def test_f1_by_k_draws_every_estimate_in_panels_of_few_lines(results: dict[str, Any]) -> None:
    figure = f1_by_k_figure(results)
    assert len(figure.axes) == 4
    for axes in figure.axes:
        assert len(axes.containers) <= 6 * len(KS)
        for name in ("none", "oracle"):
            mean = next(iter(results["methods"][name]["at"].values()))["f1"]["mean"]
            assert any(list(line.get_ydata()) == [mean, mean] for line in axes.lines)
    drawn = {tuple(np.round(np.asarray(line.get_ydata(), float), 9)) for axes in figure.axes for line in axes.lines}
    for name in METHODS:
        means = [results["methods"][name]["at"][str(k)]["f1"]["mean"] for k in KS]
        assert tuple(np.round(means, 9)) in drawn, name
    bars = [
        (round(float(path.vertices[:, 1].min()), 9), round(float(path.vertices[:, 1].max()), 9))
        for axes in figure.axes
        for container in axes.containers
        for path in container.lines[2][0].get_paths()
    ]
    value = results["methods"]["bm25"]["at"]["2"]["f1"]
    assert (round(value["low"], 9), round(value["high"], 9)) in bars
    check_legible(figure, {label_of(name) for name in (*METHODS, "none", "oracle")})


def test_every_method_and_every_k_at_once() -> None:
    """What `--methods all --k 1 2 3 4 5 7 auto` draws."""
    everything = make_results(make_records(methods=(*METHODS, *WITHOUT_DRAFT)))
    for name in (*METHODS, *WITHOUT_DRAFT):
        at = everything["methods"][name]["at"]
        at["auto"] = at["2"]
    labels = {label_of(name) for name in (*METHODS, *WITHOUT_DRAFT, "none", "oracle")}
    for figure in (f1_by_k_figure(everything), f1_by_cost_figure(everything)):
        check_legible(figure, labels)
    check_legible(faithfulness_figure(everything), labels)


def test_lines_of_a_panel_differ_without_colour(results: dict[str, Any]) -> None:
    for axes in f1_by_k_figure(results).axes:
        looks = [container.lines[0].get_marker() for container in axes.containers]
        assert len(set(looks)) == len(looks) / len(KS)


def test_f1_by_cost_places_free_draft_and_dear_methods(results: dict[str, Any]) -> None:
    figure = f1_by_cost_figure(results, "3")
    axes = figure.axes[0]
    found = {text.get_text(): text for text in texts(figure)}
    drawn = [tuple(float(values[0]) for values in container.lines[0].get_data()) for container in axes.containers]
    for name in METHODS:  # its label stands over its own point
        mean = results["methods"][name]["at"]["3"]["f1"]["mean"]
        assert (found[label_of(name)].xy[0], mean) in drawn
    ticks = {text.get_text().split("\n")[0]: float(text.get_position()[0]) for text in axes.get_xticklabels()}
    assert ticks["0"] < ticks["1"] < ticks["5"] < ticks["10"] < ticks["20"]
    # a logarithm from there on: 5 to 10 is as far as 10 to 20
    assert ticks["10"] - ticks["5"] == pytest.approx(ticks["20"] - ticks["10"])
    assert len(axes.containers) == len(METHODS)
    xs = sorted(float(container.lines[0].get_xdata()[0]) for container in axes.containers)
    bins = sorted(
        float(line.get_xdata()[0])
        for line in axes.lines
        if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    )
    free = sum(not uses and passes == 0 for _, passes, uses in METHODS.values())
    draft = sum(uses and passes == 0 for _, passes, uses in METHODS.values())
    assert sum(x < bins[0] for x in xs) == free
    assert sum(bins[0] < x < bins[1] for x in xs) == draft
    check_legible(figure, {label_of(name) for name in (*METHODS, "none", "oracle")})
    with pytest.raises(InputError, match="k = 9"):
        f1_by_cost_figure(results, "9")


def test_methods_of_one_cost_stand_side_by_side(results: dict[str, Any]) -> None:
    dear = ["contribution", "contribution_learned", "effective_attention", "effective_attention_learned"]
    costs = {name: {**results["methods"][name]["cost"], "passes": {"mean": 1.0, "low": 1, "high": 1}} for name in dear}
    methods = {name: {**method, "cost": costs.get(name, method["cost"])} for name, method in results["methods"].items()}
    axes = f1_by_cost_figure({**results, "methods": methods}, "3").axes[0]
    xs = sorted(float(container.lines[0].get_xdata()[0]) for container in axes.containers)
    assert all(later - earlier > 0.12 for earlier, later in itertools.pairwise(xs))
    columns = [float(line.get_xdata()[0]) for line in axes.lines if len(set(line.get_xdata())) == 1]
    two = next(float(t.get_position()[0]) for t in axes.get_xticklabels() if t.get_text() == "2")
    assert sum(abs(x - two) < 0.5 for x in xs) == 4
    assert min(x for x in xs if abs(x - two) < 0.5) > max(columns[:3])


def test_faithfulness_bars_are_the_estimates(results: dict[str, Any]) -> None:
    figure = faithfulness_figure(results)
    assert [axes.get_title(loc="left") for axes in figure.axes] == 2 * ["LDS", "top-1 drop", "top-3 drop", "top-5 drop"]
    for index, axes in enumerate(figure.axes):
        part = results["faithfulness"][("passage", "sentence")[index // 4]]
        columns = [part["lds"], *({name: drops[k] for name, drops in part["top_k_drop"].items()} for k in "135")]
        values = columns[index % 4]
        first = figure.axes[index // 4 * 4]
        ticks = zip(first.get_yticks(), first.get_yticklabels(), strict=True)
        labels = {round(tick, 6): text.get_text() for tick, text in ticks}
        bars = {labels[round(bar.get_y() + bar.get_height() / 2, 6)]: bar.get_width() for bar in axes.patches}
        assert bars == pytest.approx({label_of(name): value["mean"] for name, value in values.items()})
        intervals = [c.lines[2][0].get_paths()[0].vertices[:, 0] for c in axes.containers if hasattr(c, "has_xerr")]
        assert len(intervals) == len(values)
        assert np.allclose(sorted(map(tuple, intervals)), sorted((v["low"], v["high"]) for v in values.values()))
    check_legible(figure, {label_of(name) for name in METHODS})
    with pytest.raises(InputError, match="no faithfulness"):
        faithfulness_figure({"faithfulness": None})


def test_faithfulness_of_few_sources_or_none(results: dict[str, Any]) -> None:
    """LDS needs ablations that no method has seen; with two passages there are none."""
    passage = results["faithfulness"]["passage"]
    few = faithfulness_figure({"faithfulness": {"passage": {**passage, "lds": {}}}})
    assert len(few.axes[0].patches) == 0
    assert len(few.axes[1].patches) == len(passage["top_k_drop"])
    nothing = {**passage, "n": 0, "lds": {}, "top_k_drop": {}}
    without = {**results, "faithfulness": {"passage": nothing, "sentence": None}}
    assert [name for name, _ in all_figures(without)] == ["f1_by_k", "f1_by_cost"]


def test_heat_map_is_layers_by_heads_centred_at_zero(coefficients: HeadCoefficients) -> None:
    kinds = ["sliding_attention", "full_attention"] * 3
    figure = coefficients_figure(coefficients, "AT2", kinds)
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels] == ["draft rows", "question-max rows"]
    for index, axes in enumerate(panels):
        image = axes.images[0]
        assert np.allclose(image.get_array(), coefficients.weight[index].T.numpy())
        assert image.norm.vmin == -image.norm.vmax
        marked = next(line for line in axes.lines if line.get_marker() == "v")
        assert list(marked.get_xdata()) == [1, 3, 5]
    check_legible(figure, set())
    everywhere = coefficients_figure(coefficients, "AT2", ["full_attention"] * 6)
    assert not any(line.get_marker() == "v" for axes in everywhere.axes for line in axes.lines)


@pytest.mark.parametrize("shape", [(1, 18, 4), (1, 64, 64), (3, 2, 1), (2, 28, 16)])
def test_heat_maps_of_any_shape_stay_legible(shape: tuple[int, int, int]) -> None:
    groups = [RowGroup("draft"), RowGroup("question", "max"), RowGroup("last")][: shape[0]]
    check_legible(coefficients_figure(HeadCoefficients(torch.randn(shape), groups), "Contribution, learned"), set())


def test_few_methods_one_k_and_a_k_chosen_by_question(results: dict[str, Any]) -> None:
    few = make_results(make_records(8, ("at2", "bm25"), (3,)), faithfulness=False)
    few["methods"]["at2"]["at"]["auto"] = few["methods"]["at2"]["at"]["3"]
    figure = f1_by_k_figure(few)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["3", "auto"]
    check_legible(figure, {"AT2", "BM25", "No pruning", "Oracle"})
    check_legible(f1_by_cost_figure(few), {"AT2", "BM25", "No pruning", "Oracle"})
    none = {"none": few["methods"]["none"], "oracle": few["methods"]["oracle"]}
    with pytest.raises(InputError, match="no method to draw"):
        f1_by_k_figure({**few, "methods": none})


def test_files_are_the_same_each_time_whatever_the_users_style(
    results: dict[str, Any], coefficients: HeadCoefficients, tmp_path: Path
) -> None:
    some = make_results(make_records(8, ("at2", "bm25"), (1, 3)), faithfulness=False)
    digests = []
    for place in ("a", "b"):
        before = dict(matplotlib.rcParams)
        paths = write_figures(some, {"at2": coefficients}, tmp_path / place)
        assert dict(matplotlib.rcParams) == before
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths})
        matplotlib.rcParams["font.size"] = 20
    matplotlib.rcdefaults()
    assert digests[0] == digests[1]
    assert set(digests[0]) == {
        f"{name}.{kind}" for name in ("f1_by_k", "f1_by_cost", "coefficients_at2") for kind in ("png", "svg")
    }
    text = (tmp_path / "a" / "f1_by_k.svg").read_text()
    assert "<dc:date>" not in text
    assert (tmp_path / "a" / "f1_by_k.png").read_bytes()[:4] == b"\x89PNG"
    assert svg(f1_by_k_figure(results)).startswith("<?xml")


def test_without_matplotlib_the_error_names_the_command(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'pip install "at2-prune\[eval\]"'):
        f1_by_k_figure(results)


def test_spread_moves_no_more_than_needed() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        places = list(random.random(8))
        moved = spread(places, 0.15)
        assert np.argsort(moved).tolist() == np.argsort(places).tolist()
        assert np.diff(sorted(moved)).min() >= 0.15 - 1e-6
    assert spread([0.0, 1.0, 5.0], 0.5) == [0.0, 1.0, 5.0]
