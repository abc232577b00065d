"""Draw the pictures of docs/gallery.md into docs/figures/.

    $ python docs/gallery.py
    $ python docs/gallery.py --coefficients scout-gemma/ scout-smollm2/ --out docs/figures

The first picture shows one question of the package's sample: the score of each passage, and the answers from all
passages and from the kept ones. The second shows scout's coefficients, a row for each folder; by default all that
come with at2-prune. Nothing is drawn from memory: the embedded model scores and answers each time.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from at2_prune import AT2Pruner, PruneResult, load_questions, sample_questions_path
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.coefficients.shipped import shipped_coefficients
from at2_prune_eval.figures.style import COLORS, SIZE, new_figure, save_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = Path(__file__).parent / "figures"
KEPT, DROPPED = COLORS[0], "#BBBBBB"


@styled
def question_figure(result: PruneResult, before: str, true_answer: str) -> Figure:
    """Draw a bar for each passage, best first, and both answers below.

    Args:
        result: the result with the kept passages.
        before: the answer from all passages.
        true_answer: the answer that the data set holds.
    """
    order = sorted(range(len(result.scores)), key=lambda index: -result.scores[index])
    figure = new_figure(1.55 + 0.2 * len(order))
    axes = figure.add_axes((0.24, 0.26, 0.72, 0.66))
    colors = [KEPT if index in result.kept else DROPPED for index in order]
    axes.barh(range(len(order)), [result.scores[index] for index in order], color=colors, height=0.72)
    names = [result.passages[index].title or result.passages[index].text[:20] for index in order]
    axes.set_yticks(range(len(order)), names)
    for place, index in enumerate(order):
        note = f"{result.scores[index]:.3f}" + ("  kept" if index in result.kept else "")
        axes.annotate(note, (result.scores[index], place), (4, 0), textcoords="offset points", va="center_baseline")
    axes.invert_yaxis()
    axes.set_xlim(0, max(result.scores) * 1.2)
    axes.set_xlabel("score, from the attention of the question to the passage")
    axes.tick_params(axis="y", length=0)
    question = "\n".join(textwrap.wrap(result.question, 88))
    figure.text(0.02, 0.975, question, fontweight="bold", fontsize=SIZE + 1, va="top")
    answers = (
        (0.085, f"answer from all {len(order)} passages:", before, "#555555"),
        (0.03, f"answer from the {len(result.kept)} kept passages:", result.answer, KEPT),
    )
    for height, label, answer, color in answers:
        figure.text(0.02, height, label)
        right = "correct" if true_answer.lower() in answer.lower() else "wrong"
        figure.text(0.32, height, f"{answer}  ({right})", fontweight="bold", color=color)
    return figure


@styled
def heads_figure(models: Sequence[ScoutCoefficients]) -> Figure:
    """Draw the coefficients of scout's first choice: a row of panels for each model, with layers x heads in each.

    Each panel has a scale of its own, because features have different sizes. Coefficients below 0 are also dotted.
    """
    features = ("joint", "joint-max", "share", "share-max", "title", "title-max")
    figure = new_figure(0.3 + 1.5 * len(models))
    grid = figure.subplots(len(models), len(features), squeeze=False)
    for row, model in zip(grid, models, strict=True):
        weight = model.first.float().cpu().numpy()
        for axes, feature, panel in zip(row, features, weight, strict=True):
            top = float(abs(panel).max()) or 1.0
            axes.imshow(panel.T, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
            below = np.argwhere(panel < -0.02 * top)
            if len(below):
                axes.scatter(*below.T, s=4, color="#000000", linewidths=0)
            name = f"{Path(model.model_name).name}\n" if axes is row[0] else ""
            axes.set_title(f"{name}{feature}", fontsize=SIZE, fontweight="normal", loc="left")
            axes.set_xticks(range(len(model.layers)), [str(layer) for layer in model.layers])
            heads = panel.shape[1]
            axes.set_yticks(range(0, heads, 1 if heads < 6 else 4))
            axes.tick_params(length=2)
            axes.spines[["top", "right"]].set_visible(True)
        row[0].set_ylabel("head", fontsize=SIZE)
        row[len(features) // 2].set_xlabel("layer")
    figure.tight_layout(w_pad=0.4)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/gallery.md.")
    parser.add_argument("--coefficients", nargs="+", metavar="DIR", help="folders of scout's coefficients, one a model")
    parser.add_argument("--out", default=FIGURES, type=Path, metavar="DIR", help="where the pictures go")
    options = parser.parse_args(arguments)
    question = load_questions(sample_questions_path())[0]
    pruner = AT2Pruner.from_pretrained()
    result = pruner.answer(question.text, question.passages, k=3)
    before = pruner.answer_from(question.text, question.passages)
    figure = question_figure(result, before, question.answer or "")
    written = save_figure(figure, options.out, "gallery_question")
    folders = options.coefficients or [one["scout"] for one in shipped_coefficients().values() if "scout" in one]
    maps = heads_figure([ScoutCoefficients.from_pretrained(folder) for folder in folders])
    written += save_figure(maps, options.out, "gallery_heads")
    print(*written, sep="\n")


if __name__ == "__main__":
    main()
