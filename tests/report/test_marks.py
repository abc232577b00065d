from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pytest

from at2_prune.passages import Passage
from at2_prune.report import html_report
from at2_prune.report.marks import LEVELS, Bar, Scale

sys.path.insert(0, str(Path(__file__).parent))

from made_reports import Page, made_result


def test_style_sheet_is_package_data_and_has_every_shade():
    css = (files("at2_prune.report") / "page.css").read_text(encoding="utf-8")
    for level in range(1, LEVELS + 1):
        assert f".p{level} {{ background" in css
        assert f".n{level} {{ background" in css


def test_shading_is_monotone_in_the_score():
    scores = [i / 1000 for i in range(-300, 301)]
    scale = Scale.of(scores)
    levels = [scale.level(score) * (-1 if score < 0 else 1) for score in scores]
    assert levels == sorted(levels)
    assert set(levels) == set(range(-LEVELS, LEVELS + 1))
    passages = [Passage("".join(f"{i:05d}" for i in range(601)))]
    tokens = [[(f"{i:05d}", score) for i, score in enumerate(scores)]]
    page = Page(html_report(made_result(passages, [1.0], [0]), tokens, model="m", scorer="s"))
    classes = [css.split()[0] if css else "p0" for css, _, _ in page.tokens]
    assert [int(c[1:]) * (-1 if c[0] == "n" else 1) for c in classes] == levels
    assert page.tokens[0][2] == "−0.3000"


def test_one_token_does_not_wash_out_the_rest():
    scores = [0.001 * i for i in range(1, 200)] + [90.0]
    scale = Scale.of(scores)
    assert scale.top == pytest.approx(0.198)
    assert scale.beyond == 2
    assert "beyond" in scale.shade(" ", 90.0).css
    assert scale.level(0.1) > LEVELS // 3


@pytest.mark.parametrize("scores", [[], [0.0] * 5, [float("nan"), 0.0]])
def test_no_influence_no_shade(scores: list[float]):
    scale = Scale.of(scores)
    assert [scale.level(score) for score in scores] == [0] * len(scores)


def test_the_only_influence_sets_the_scale():
    assert Scale.of([0.0] * 500 + [0.2]).level(0.2) == LEVELS


def test_bars_share_one_scale():
    scores = [0.5, -0.25, 0.0, float("nan"), float("-inf")]
    bars = [Bar.of(score, scores) for score in scores]
    assert [(bar.left, bar.width, bar.css) for bar in bars] == [
        (33.33, 66.67, "positive"),
        (0, 33.33, "negative"),
        (33.33, 0, "positive"),
        (33.33, 0, "positive"),
        (0, 33.33, "negative"),
    ]
    assert Bar.of(0.0, [0.0, 0.0]).width == 0
