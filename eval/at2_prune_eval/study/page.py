"""Write a study's page in Markdown, with its figures, from the study's files or only from its `results.json`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from at2_prune.bootstrap import RESAMPLES, Estimate
from at2_prune.errors import CacheError
from at2_prune.files import write_atomically

from ..figures.style import svg
from ..k_values import ALL
from ..tables.cells import FEW_QUESTIONS, TOO_FEW, markdown
from .cells import Cells, Key, as_json, load_cells
from .figures import curve_figure, forest_figure
from .folder import StudyFolder

__all__ = ["write_cells", "write_page"]

PAGE = "README.md"
RESULTS = "results.json"


def write_page(folder: StudyFolder) -> str:
    """Write the page, its figures and `results.json` into the study's folder, and return the page's path.

    Raises:
        DataError: a file is missing or damaged, or no reader has answered a whole data set.
        CacheError: the page cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    cells = load_cells(folder)
    write_cells(cells, folder.path / PAGE)
    write_atomically(folder.path / RESULTS, as_json(cells))
    return str(folder.path / PAGE)


def write_cells(cells: Cells, page: Path) -> None:
    """Write the page for a study's cells, and write the figures into the folder `figures` beside the page.

    Raises:
        CacheError: the page cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    figures = {}
    if [name for name in cells.baselines if name != cells.subject] and cells.subject:
        figures["forest"] = svg(forest_figure(cells))
    figures["f1_by_tokens"] = svg(curve_figure(cells))
    try:
        (page.parent / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"cannot write {page.parent}: {error.strerror or error}") from error
    for name, drawing in figures.items():
        write_atomically(page.parent / "figures" / f"{name}.svg", drawing)
    sections = [_head(cells), _pooled(cells), _differences(cells, "forest" in figures), *_steps(cells), _curve(cells)]
    sections += [_reader(cells, reader) for reader in cells.readers]
    sections += [_run(cells)] if cells.file else []
    write_atomically(page, "\n\n".join(sections) + "\n")


def _head(cells: Cells) -> str:
    readers = []
    for reader in cells.readers:
        parts = [part for (name, _), part in cells.parts.items() if name == reader]
        devices = dict.fromkeys(f"{w['device']}, batches of {w['batch_size']}" for one in parts for w in one.where)
        about = parts[0].about
        size = f"{about['parameters'] / 1e6:,.0f} million parameters"
        readers.append([reader, f"{about['model']}, {size}", about["dtype"], "; ".join(devices)])
    counts = {data: part.questions for (_, data), part in cells.parts.items()}
    many = "reader answers" if len(cells.readers) == 1 else "readers answer"
    sets = "data set" if len(counts) == 1 else "data sets"
    text = [
        f"# {cells.title}",
        f"{len(cells.readers)} {many} the questions of {len(counts)} {sets} from the passages that each "
        "method keeps. Every different set of passages is answered once. Intervals are 95 %, by bootstrap over "
        f"questions ({RESAMPLES:,} resamples, drawn within each data set). Every question counts the same. If readers "
        "are pooled, a question's value is the mean over the readers. Differences are paired.",
        markdown([["reader", "model", "precision", "device"], *readers]),
        markdown([["data", "questions"], *([data, str(count)] for data, count in counts.items())]),
    ]
    if min(counts.values()) < FEW_QUESTIONS:
        text.append(TOO_FEW)
    for (reader, data), (done, needed) in cells.missing.items():
        text.append(f"Left out: {reader} has answered {done} of {needed} prompts of {data}.")
    for (reader, data), part in cells.parts.items():
        if part.empty:
            empty = f"{reader} wrote nothing for {part.empty} of {part.answers} prompts of {data}."
            text.append(f"{empty} Empty answers score 0.")
    return "\n\n".join(text)


def _pooled(cells: Cells) -> str:
    readers, data = cells.readers, cells.data_of(cells.readers)
    if not data:
        return "## All readers\n\nNo data set was answered by all readers."
    about = f"Readers {', '.join(readers)} and data sets {', '.join(data)}, pooled. `{ALL}` keeps every passage."
    return f"## All readers\n\n{about}\n\n{_means(cells, readers, data)}"


def _means(cells: Cells, readers: Sequence[str], data: Sequence[str]) -> str:
    tokens = {key: cells.mean(key, "tokens", readers, data).mean for key in cells.keys}
    whole = next((tokens[key] for key in cells.keys if key[1] == ALL), None)
    share = ["share of tokens"] if whole else []
    rows = [["method", "k", "answer F1", "tokens read", *share, "evidence recall"]]
    for key in cells.keys:
        rows.append(
            [
                cells.labels[key[0]],
                key[1],
                str(cells.mean(key, "f1", readers, data)),
                f"{tokens[key]:,.0f}",
                *([f"{tokens[key] / whole:.0%}"] if whole else []),
                str(cells.mean(key, "recall", readers, data)),
            ]
        )
    return markdown(rows)


def _differences(cells: Cells, drawn: bool) -> str:
    text = ["## Differences in F1"]
    if drawn:
        text.append(f"![Paired differences of {cells.labels[cells.subject]}](figures/forest.svg)")
        text.append("Lines are 95 % intervals, and numbers are means. Thick lines pool data sets.")
    scopes, shared = _scopes(cells), cells.data_of(cells.readers)
    if len(shared) > 1:
        scopes += [(scopes[0][0], cells.readers, [data]) for data in shared]
    for title, readers, data in scopes:
        rows = [["method", "k", *(f"F1 minus {_named(cells, name)}" for name in cells.baselines)]]
        for key in cells.keys:
            if key[1] == ALL:
                continue
            found = [cells.difference(key, name, readers, data) for name in cells.baselines]
            rows.append([cells.labels[key[0]], key[1], *("–" if one is None else _signed(one) for one in found)])
        over = f"pooled over {', '.join(data)}" if len(data) > 1 else data[0]
        text += [f"### Differences, {title}, {over}", markdown(rows)]
    return "\n\n".join(text)


def _scopes(cells: Cells) -> list[tuple[str, list[str], list[str]]]:
    """Return a title, the readers and their data sets: all readers first, if they share data sets, then each reader."""
    scopes = [(reader, [reader], cells.data_of([reader])) for reader in cells.readers]
    shared = cells.data_of(cells.readers)
    return [("all readers", cells.readers, shared), *scopes] if len(scopes) > 1 and shared else scopes


def _steps(cells: Cells) -> list[str]:
    """Return the section that compares each k with the next smaller one. It is left out if there is only one k."""
    scopes = _scopes(cells)
    rows = [["method", "k", "minus k", *(f"F1, {title}" for title, *_ in scopes)]]
    for name, label in cells.labels.items():
        keys = sorted((key for key in cells.keys if key[0] == name and key[1] != ALL), key=lambda key: int(key[1]))
        for less, more in pairwise(keys):
            values = [_signed(cells.gain(more, less, readers, data)) for _, readers, data in scopes]
            rows.append([label, more[1], less[1], *values])
    if len(rows) == 1:
        return []
    return [f"## F1 of more passages\n\nPaired differences, pooled over the data sets.\n\n{markdown(rows)}"]


def _curve(cells: Cells) -> str:
    return (
        "## F1 against tokens\n\n![Answer F1 against the tokens that the reader read](figures/f1_by_tokens.svg)\n\n"
        "Each point is one k, pooled over the data sets that the reader answered. The tokens of the whole prompt are "
        "counted: instruction, passages and question. Vertical lines are 95 % intervals; the dashed line is no "
        "pruning. The tokens of a draft that a method writes before it chooses are not counted."
    )


def _reader(cells: Cells, reader: str) -> str:
    text = [f"## {reader}"]
    answered = cells.data_of([reader])
    if len(answered) > 1 and len(cells.readers) > 1:
        text += [f"### {reader}, pooled over {', '.join(answered)}", _means(cells, [reader], answered)]
    for data in answered:
        header = ["method", "k", "answer F1", "tokens read", "evidence recall", "choosing, s", "answering, s"]
        rows = [header, *(_row(cells, key, reader, data) for key in cells.keys)]
        text += [f"### {reader}, {data}", markdown(rows)]
    devices = "; ".join(f"{cells.labels[name]}: {', '.join(where)}" for name, where in cells.devices.items() if where)
    text.append(
        "Seconds are means for one question. A dash stands where no time was measured. The seconds of answering are "
        "the time of the batch, divided by the number of its prompts. If a reader answered on several devices, or "
        "the results of several runs were joined, the seconds of different rows cannot be compared. "
        f"Passages were chosen on: {devices or 'no device'}."
    )
    return "\n\n".join(text)


def _run(cells: Cells) -> str:
    return f"## The run\n\n```console\n$ at2-prune study {shlex.quote(cells.file)} --out DIR\n```"


def _row(cells: Cells, key: Key, reader: str, data: str) -> list[str]:
    means = {
        what: cells.mean(key, what, [reader], [data]) for what in ("f1", "tokens", "recall", "choosing", "answering")
    }
    return [
        cells.labels[key[0]],
        key[1],
        str(means["f1"]),
        f"{means['tokens'].mean:,.0f}",
        "–" if means["recall"].mean != means["recall"].mean else str(means["recall"]),
        f"{means['choosing'].mean:.3f}" if means["choosing"].mean else "–",
        f"{means['answering'].mean:.3f}",
    ]


def _named(cells: Cells, name: str) -> str:
    return "no pruning" if (name, ALL) in cells.keys else f"{cells.labels[name]} at the same k"


def _signed(value: Estimate) -> str:
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
