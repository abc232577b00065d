"""An HTML page that shows one result. It needs no other file and no script.

The page is safe to open even if a retrieved passage is hostile. All text passes through `visible` and Jinja's
escaping. In addition, the page's content security policy forbids scripts, images and requests.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..catalogue import METHODS
from ..errors import InputError
from .cards import Tokens, cards_of
from .marks import LEVELS, Scale
from .text import by_sentences, count, duration, k_line, kept_line, steps_of, visible

if TYPE_CHECKING:
    from jinja2 import Template

    from ..pruning.results import PruneResult

__all__ = ["html_report", "template"]

MOST_WORDS = 4000
"""Draft and answer are compared only if together they have at most this many words and spaces. Longer texts are shown
without marks, because it would take long to compare them."""

Parts = list[tuple[bool, str]]
"""The draft or the answer, divided into parts. A part is a pair of a flag and a text. In the draft, the flag is True if
the answer lacks the part. In the answer, the flag is True if the draft lacks the part."""


def html_report(
    result: PruneResult,
    tokens: Sequence[Tokens] | None = None,
    *,
    model: str,
    scorer: str,
    reader: str | None = None,
) -> str:
    """Render the HTML page of one result.

    Args:
        result: the result of `AT2Pruner.answer`.
        tokens: the result of `AT2Pruner.token_scores` for the same passages. With None, the text has no shades.
        model: the name of the scoring model.
        reader: the name of the model that answered, if this model is not the scoring model.
        scorer: the name of the method. If the method is in the catalogue, the page explains the score.

    Returns:
        The page as text. `write_html_report` writes it to a file.

    Raises:
        InputError: `tokens` does not have one list for each passage.

    Example:
        >>> page = html_report(result, model="tiny", scorer="at2")  # doctest: +SKIP
        >>> write_html_report("report.html", page)  # doctest: +SKIP
    """
    if tokens is not None and len(tokens) != len(result.passages):
        raise InputError(
            f"tokens has {len(tokens)} lists, but the result has {len(result.passages)} passages; "
            "pass one list for each passage"
        )
    scale = None if tokens is None else Scale.of([score for some in tokens for _, score in some])
    cards = cards_of(result, tokens, scale)
    before, after = _changes(result.answer if result.draft is None else result.draft, result.answer)
    return template("page.html", "page.css").render(
        result=result,
        model=model,
        reader=reader,
        scorer=scorer,
        meaning=METHODS[scorer].score if scorer in METHODS else "",
        everything=count(len(result.passages), "passage", "all "),
        kept=f"{kept_line(result)} ({k_line(result)})",
        noun="sentence" if by_sentences(result) else "passage",
        seconds=steps_of(result),
        total=duration(sum(result.seconds.values())),
        verdict=_verdict(result),
        before=before,
        after=after,
        cards=cards,
        ranked=sorted(cards, key=lambda card: card.rank),
        scale=scale,
        levels=LEVELS,
    )


@functools.cache
def template(name: str, *styles: str) -> Template:
    """Return a template of this folder, with the given style sheets.

    All values are escaped. `visible` replaces the control characters in the values.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    folder = files(__package__)

    def source(file: str) -> str:
        return (folder / file).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["css"] = Markup("".join(map(source, styles)))
    return environment.get_template(name)


def _verdict(result: PruneResult) -> str:
    if result.draft is None:
        return "No draft was written: the method scores passages without one."
    if result.draft != result.answer:
        return "The answer changed."
    everything = all(source.kept for source in result.sources)
    return f"The answer is the same{': everything was kept' if everything else ''}."


def _changes(draft: str, answer: str) -> tuple[Parts, Parts]:
    """Compare the draft with the answer word by word, and return the parts of the draft and of the answer."""
    one, two = re.findall(r"\s+|\S+", draft), re.findall(r"\s+|\S+", answer)
    if draft == answer or len(one) + len(two) > MOST_WORDS:
        return [(False, draft)], [(False, answer)]
    before, after = [], []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        before.append((kind != "equal", "".join(one[i:j])))
        after.append((kind != "equal", "".join(two[k:m])))
    return [part for part in before if part[1]], [part for part in after if part[1]]
