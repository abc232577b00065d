"""Write the HTML report of a run as one file, which needs no network and no libraries.

The page is safe to open even if a passage is hostile. All text passes through `visible` and Jinja's escaping. The
content security policy of the page allows only the pictures inside the page and one script, which sorts tables. The
page chooses the shown method and k by style rules, without a script.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import label_of
from at2_prune.errors import DataError
from at2_prune.files import user_path
from at2_prune.report import write_html_report
from at2_prune.report.text import visible

from ..document.explanations import FAITHFULNESS, about_cost
from ..figures import all_figures, caption_of, middle_k, svg
from ..k_values import sorted_ks
from ..results.loading import load_results
from ..tables.cells import Rows, main_method, references, rivals
from ..tables.cost import cost_rows
from ..tables.faithfulness import ablation_difference_rows, ablation_rows, faithfulness_line, faithfulness_rows
from ..tables.reading import reading
from ..tables.scores import MARKS, all_rows, difference_rows, f1_rows, reference_line
from ..tables.settings import models_line, run_facts
from .questions import choose_questions, question_cards

if TYPE_CHECKING:
    from jinja2 import Template

    from at2_prune.coefficients.head_coefficients import HeadCoefficients

__all__ = ["report_page", "write_report"]


def write_report(
    folder: str | os.PathLike[str],
    coefficients: Mapping[str, HeadCoefficients] | None = None,
    layer_types: Sequence[str] = (),
) -> Path:
    """Write `report.html` beside a run's `results.json` and `questions.jsonl`.

    Args:
        folder: the run's folder.
        coefficients: learned head coefficients to draw, by the method that uses them.
        layer_types: the `layer_types` of the model's config; see `at2_prune_eval.figures.coefficients_figure`.

    Returns:
        The path of the page.

    Raises:
        DataError: the folder holds no run that can be read.
        MissingExtraError: matplotlib is not installed.
        CacheError: the page cannot be written.
    """
    folder = user_path(folder)
    results = load_results(folder / "results.json")
    lines = folder / "questions.jsonl"
    try:
        records = [json.loads(line) for line in lines.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{lines}: cannot be read as the run's questions ({error})") from error
    path = folder / "report.html"
    write_html_report(path, report_page(results, records, coefficients, layer_types))
    return path


def report_page(
    results: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    coefficients: Mapping[str, HeadCoefficients] | None = None,
    layer_types: Sequence[str] = (),
) -> str:
    """Return the HTML of the report.

    Args:
        results: the content of `results.json`.
        records: the lines of `questions.jsonl`.
        coefficients: see `write_report`.
        layer_types: see `write_report`.

    Returns:
        The page as HTML.
    """
    methods = rivals(results["methods"])
    ks = sorted_ks(k for name in methods for k in results["methods"][name]["at"])
    chosen_k = middle_k(results) if methods else ""
    chosen = main_method(methods)
    questions = choose_questions(records, chosen, chosen_k) if methods else []
    return _template().render(
        results=results,
        models=models_line(results.get("config", {})),
        facts=run_facts(results),
        reading=reading(results).split("\n\n"),
        reference=reference_line(results),
        marks=MARKS,
        f1=f1_rows(results),
        differences=_differences(results),
        answers=all_rows(results, "answer"),
        kept=all_rows(results, "kept"),
        costs=cost_rows(results),
        about_cost=about_cost(results),
        faithfulness=_faithfulness(results),
        about_faithfulness=FAITHFULNESS,
        pictures=[
            (caption_of(name), base64.b64encode(svg(figure).encode()).decode())
            for name, figure in all_figures(results, coefficients, layer_types)
        ],
        methods=[(name, label_of(name)) for name in methods],
        ks=ks,
        chosen=chosen,
        chosen_label=label_of(chosen),
        chosen_k=chosen_k,
        cards=question_cards(questions, methods, ks),
    )


def _differences(results: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    return [
        (title, rows)
        for reference, title in references(results["paired"])
        if len(rows := difference_rows(results, reference)) > 1
    ]


def _faithfulness(results: Mapping[str, Any]) -> dict[str, tuple[str, Rows, Rows, Rows]]:
    """Return the settings in words and three tables. The keys are the measured kinds of source: passage, sentence."""
    return {
        unit: (faithfulness_line(part), ablation_rows(part), faithfulness_rows(part), ablation_difference_rows(part))
        for unit, part in (results.get("faithfulness") or {}).items()
        if part
    }


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    def marked(cell: str) -> Markup:
        """Escape a cell, and turn the bold and code of Markdown into HTML."""
        text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", str(escape(visible(cell))))
        return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", text))

    folder, shared = files(__package__), files("at2_prune.report")
    script = (folder / "sort.js").read_text(encoding="utf-8").strip()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["marked"] = marked
    environment.globals["css"] = Markup(
        "\n".join((place / "page.css").read_text(encoding="utf-8") for place in (shared, folder))
    )
    environment.globals["script"] = Markup(script)
    environment.globals["digest"] = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
