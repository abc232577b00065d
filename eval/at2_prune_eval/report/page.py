"""One HTML file that needs nothing else: no network, no library, safe to open whatever was retrieved.

Everything written into it passes through `visible` and Jinja's escaping. The page's own policy allows one script, by
its digest (it sorts the table), pictures that are in the page, and nothing else. Methods and k are switched by style
rules alone.
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

from at2_prune.catalogue import by_family, label_of
from at2_prune.errors import DataError
from at2_prune.report import write_html_report
from at2_prune.report.text import visible

from ..document.page import FAITHFULNESS, about_cost, load_results
from ..figures import all_figures, caption_of, middle_k, svg
from ..k_values import sorted_ks
from ..tables.overview import reading
from ..tables.sections import (
    MARKS,
    ablation_difference_rows,
    ablation_rows,
    all_rows,
    cost_rows,
    difference_rows,
    f1_rows,
    faithfulness_line,
    faithfulness_rows,
    reference_line,
    run_facts,
)
from .questions import cards, choose

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
        folder: of the run.
        coefficients: learned head coefficients by the method that uses them; drawn if given.
        layer_types: of the model's config; see `at2_prune_eval.figures.coefficients_figure`.

    Returns:
        The page's path.

    Raises:
        DataError: the folder holds no run that can be read.
        MissingExtraError: matplotlib is not installed.
        CacheError: the page cannot be written.
    """
    folder = Path(folder)
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
    """The page.

    Args:
        results: what `results.json` holds.
        records: lines of `questions.jsonl`.
        coefficients: see `write_report`.
        layer_types: see `write_report`.

    Returns:
        HTML.
    """
    methods = [name for names in by_family(results["methods"]).values() for name in names]
    ks = sorted_ks(k for name in methods for k in results["methods"][name]["at"])
    chosen_k = middle_k(results) if methods else ""
    chosen = "at2" if "at2" in methods else methods[0] if methods else ""
    questions = choose(records, chosen, chosen_k) if methods else []
    pictures = [
        (caption_of(name), base64.b64encode(svg(figure).encode()).decode())
        for name, figure in all_figures(results, coefficients, layer_types)
    ]
    faithfulness = {
        unit: (
            faithfulness_line(part),
            ablation_rows(part),
            faithfulness_rows(part),
            ablation_difference_rows(part),
        )
        for unit, part in (results.get("faithfulness") or {}).items()
        if part
    }
    differences = [
        (title, rows)
        for reference, title in (("none", "no pruning"), ("at2", "AT2 at the same k"))
        if len(rows := difference_rows(results, reference)) > 1
    ]
    return _template().render(
        results=results,
        facts=run_facts(results),
        reading=reading(results).split("\n\n"),
        reference=reference_line(results),
        marks=MARKS,
        f1=f1_rows(results),
        differences=differences,
        answers=all_rows(results, "answer"),
        kept=all_rows(results, "kept"),
        costs=cost_rows(results),
        about_cost=about_cost(results),
        faithfulness=faithfulness,
        about_faithfulness=FAITHFULNESS,
        pictures=pictures,
        methods=[(name, label_of(name)) for name in methods],
        ks=ks,
        chosen=chosen,
        chosen_label=label_of(chosen),
        chosen_k=chosen_k,
        cards=cards(questions, methods, ks),
    )


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    def marked(cell: str) -> Markup:
        """Escaped, with Markdown's bold and code as HTML."""
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
