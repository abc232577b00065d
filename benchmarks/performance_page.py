"""Write docs/performance.md from the measurements: the targets with the measured values, then all measurements."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

import torch
from measuring import Measurement

__all__ = ["DOCUMENTS", "by_device", "explained", "floors", "many_documents", "over_limit", "targets", "write_page"]

TARGETS = (
    ("drafting with attribution / generate", "attribution while drafting, time over plain `generate`", "≤ 1.01"),
    (
        "drafting: attribution's own code / the rest",
        "the same without two runs to compare: time in its own code, over the rest of drafting",
        "≤ 0.01",
    ),
    (
        "scoring a given draft / forward pass",
        "teacher-forced scoring of a given draft, over one forward pass",
        "≤ 1.03",
    ),
    ("peak memory added / all hidden states", "peak memory added, over all hidden states", "≤ 0.01"),
    ("peak memory added / all weights of the draft's rows", "peak memory added, over all weights", "≤ 0.01"),
    ("memory added: exponent against sources", "memory added, exponent against sources", "linear"),
    ("random ablations: engine / plain loop", "random ablations, exact, time over the plain loop", "≤ 1/3"),
    ("random ablations: engine / lean loop", "the same over a loop that asks for the target's logits only", "≤ 1/3"),
    ("leave-one-out: engine / plain loop", "leave-one-out, exact, time over the plain loop", "≤ 1/3"),
    ("leave-one-out: engine / lean loop", "the same over a loop that asks for the target's logits only", "≤ 1/3"),
    ("random ablations: largest difference of log-odds", "largest difference of log-odds, float32", "≤ 1e-4"),
    ("draft, prune, answer / two generates", "draft → prune → answer, over its two `generate` calls", "≤ 1.05"),
    (
        "scout: kept passages / forward pass",
        "scout, scoring ten passages that the index holds, over a forward pass",
        "≤ 0.05",
    ),
    (
        "scout: answer, passages kept / generate",
        "scout, whole answer from the best three, over plain generation",
        "≤ 0.40",
    ),
    (
        "scout: new passages / forward pass",
        "scout, scoring ten new passages, over a forward pass of their prompt",
        "≤ 0.40",
    ),
    (
        "scout: 100 times as many kept passages / forward pass",
        "scout, scoring 1,000 passages that the index holds, over a forward pass of ten",
        "≤ 1",
    ),
    (
        "scout: exponent against kept passages",
        "scout, time of scoring kept passages, exponent against their number",
        "linear",
    ),
    (
        "scout: kept passages / cross-encoder",
        "scout, scoring ten kept passages, over a cross-encoder (int8, ONNX)",
        "≤ 0.1",
    ),
    (
        "scout_dense: kept passages / forward pass",
        "scout_dense with bge-small (int8, ONNX), scoring ten passages that the index holds, over a forward pass",
        "≤ 0.05",
    ),
    (
        "scout_dense: new passages / forward pass",
        "scout_dense with bge-small, scoring ten new passages, over a forward pass",
        "≤ 0.40",
    ),
    (
        "indexing / forward pass of as many layers",
        "reading new passages, over a plain pass of as many layers",
        "≤ 1.11",
    ),
    ("scout: bytes kept for each token", "bytes that the index keeps for each token", "≤ 1,024"),
    *(
        (
            f"calibrating a {dtype} model, seconds",
            f"`at2-prune calibrate` for a random model with the layers of Qwen2 0.5B, {dtype}, seconds",
            "≤ 120",
        )
        for dtype in ("float32", "bfloat16")
    ),
    ("loading the embedded model, seconds", "loading the embedded model from its cache, seconds", "≤ 2"),
    ("importing at2_prune, seconds", "`import at2_prune`, seconds", "≤ 0.1"),
    ("at2-prune --help, seconds", "`at2-prune --help`, seconds", "≤ 0.3"),
)
"""The name of a measurement, its name on the page, and its target."""

SHORT_DRAFT = 16
"""The largest number of tokens of a draft that has no reason to miss its target."""

FLOORS = {
    "drafting with attribution / generate": """\
**Attribution while drafting, by two runs.** Runs of one kind differ by more than a hundredth on this machine, so an
interval that holds 1 shows neither gain nor loss; the clock inside one draft has no such noise. Long drafts do cost
more: every token adds its product with all keys, and there is no shorter way to its attention.""",
    "drafting: attribution's own code / the rest": """\
**Attribution's own time.** What is added can be counted (tests/pruning/test_work_done.py): no forward pass, and in each
layer one product of the draft's rows with the keys. For Gemma 3 270M, 8 tokens after 1,609, that is
2 x 18 layers x 4 heads x 256 x 8 x 1,609 = 0.5 GFLOP. The prompt's own pass through 100 million weights is
2 x 10^8 x 1,609 = 322 GFLOP, six hundred times as much. Each further token adds 0.06 GFLOP to the 0.5 of its own step
(the layers, and an output layer of 168 million weights). That is over a tenth of the work, in a step that waits for
memory more than it computes. So the share grows with the draft, and past some tens of tokens a hundredth is below what
that product takes.""",
    "random ablations: engine / lean loop": """\
**Random ablations, over the lean loop.** The loop runs every token for every mask. The engine skips the sources that a
mask leaves out, on average half of them, and runs the common beginning of several masks once. Of m random masks over n
sources, about min(2^(i-1), m/2) different beginnings end with the i-th source: for m = 32 and n = 10, 1 + 2 + 4 + 8 + 6
x 16 = 111 sources run instead of 320, a little over a third. The text before the sources is run once, and the question
and target m times. More masks share more: 64 of them run 191 of 640.""",
    "leave-one-out: engine / lean loop": """\
**Leave-one-out, over the lean loop.** What follows a source that is left out has to be run again, in every layer: its
keys and values depend on what came before. Only what precedes it can be shared. With n sources of equal length and
nothing else in the prompt, the loop with its reference pass runs n + 1 times n sources' tokens. The engine runs n for
the reference and n - i for the ablation of the i-th: n + n(n - 1)/2 in all. Their ratio is (n^2 + n)/(2 n (n + 1)) =
1/2 for every n. The text before the sources is run once and lowers the ratio. The question and the target after them
are run every time and raise it. So for an exact outcome 1/2 of the layers' work is the floor, and 1/3 would need an
approximation: fewer layers, or reused keys and values. Over the plain loop the logits that nobody reads are saved
too.""",
    "scout: answer, passages kept / generate": """\
**Scout's whole answer.** The rest of the time is the answer itself: a shorter prompt saves its pass, but every token of
the answer takes a step of its own, after three passages as after ten.""",
    "scout: kept passages / cross-encoder": """\
**Scout over a cross-encoder.** Most of the time of ten kept passages is the question's own pass through six layers of a
model of 270 million parameters, and the links. The cross-encoder has 33 million parameters, in 8-bit integers. Kept
passages cost little more each: the figure shows where the lines part.""",
    "calibrating a float32 model, seconds": """\
**Calibrating in float32.** Nearly all of the time is one pass of the passages through a third of the layers: 85,000
tokens through about 120 million weights are 20 TFLOP. `calibrate` reads the passages in bfloat16 if the processor has
matrix units for bfloat16 and the weights stay the same.""",
}
"""For the name of a measurement, the reason why it may miss its target, and the lowest possible value."""


FLOOR_OF = {
    f"{kind}: engine / plain loop": f"{kind}: engine / lean loop" for kind in ("random ablations", "leave-one-out")
}
"""Measurements that miss their target for the reason of another one. With a small vocabulary, both loops are alike."""


def over_limit(measurement: Measurement) -> bool:
    return measurement.limit is not None and measurement.ratio > measurement.limit


def explained(measurement: Measurement) -> bool:
    """Return whether the page gives a reason for which a measurement misses its limit."""
    name = FLOOR_OF.get(measurement.name, measurement.name)
    long = measurement.inputs.get("draft", 0) > SHORT_DRAFT
    if name == "drafting with attribution / generate":
        return long or (measurement.limit is not None and measurement.low <= measurement.limit)
    if name == "drafting: attribution's own code / the rest":
        return long
    return name in FLOORS


DOCUMENTS = "scoring documents with scout, seconds"
"""The name of the measurements of `documents.py`."""

LINEAR = 1.05
"""The largest exponent that counts as linear."""


def measured(measurements: Sequence[Measurement], name: str) -> Measurement | None:
    """Return a target's measurement: the first one (main model and size), or for memory the longest prompt."""
    found = [m for m in measurements if m.name == name]
    if name.startswith("peak memory") and found:
        of_one_model = [m for m in found if m.inputs["model"] == found[0].inputs["model"]]
        return max(of_one_model, key=lambda m: m.inputs["tokens"])
    return found[0] if found else None


def by_device(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Return the measurements by device, the CPU first. A measurement without a device ran on the CPU."""
    devices: dict[str, list[Measurement]] = {"cpu": []}
    for measurement in measurements:
        devices.setdefault(measurement.inputs.get("device", "cpu"), []).append(measurement)
    return devices


def targets(measurements: Sequence[Measurement]) -> list[str]:
    """Return the table of targets in Markdown, for the measurements of one device."""
    lines = ["| | target | measured | 95 % interval | reached |", "|---|---|---|---|---|"]
    for name, title, target in TARGETS:
        found = measured(measurements, name)
        if found is None:
            lines.append(f"| {title} | {target} | not measured | | |")
            continue
        limit = LINEAR if target == "linear" else found.limit
        reached = "" if limit is None else "yes" if found.ratio <= limit else "no"
        lines.append(f"| {title} | {target} | {found.ratio:.5g} | [{found.low:.4g}, {found.high:.4g}] | {reached} |")
    return lines


def floors(measurements: Sequence[Measurement]) -> list[str]:
    """Return the reasons why targets were missed, in Markdown: one paragraph for each, with the counted work."""
    lines = []
    for name, words in FLOORS.items():
        missed = [m for m in measurements if FLOOR_OF.get(m.name, m.name) == name and over_limit(m) and explained(m)]
        if not missed:
            continue
        counts = name.replace(": engine / lean loop", ": tokens run, engine / loop")
        of = missed[0].inputs.get("ablations")
        work = next((m for m in measurements if m.name == counts != name and m.inputs.get("ablations") == of), None)
        counted = f" Counted here: {work.ratio:.3f} of the loop's tokens." if work else ""
        lines += [*(words + counted).splitlines(), ""]
    return ["## Missed, and why", "", *lines] if lines else []


def many_documents(measurements: Sequence[Measurement]) -> list[str]:
    """Return the section on many documents in Markdown. It is empty without such measurements."""
    found = [m for m in measurements if m.name == DOCUMENTS]
    if not found:
        return []
    how = found[0].inputs
    lines = [
        "## Many documents",
        "",
        f"Scoring new documents with scout on {how['threads']} CPU thread(s), {how['model']}, float32, documents of",
        f"about {how['tokens'] // how['passages']} tokens, one run each. Memory is the resident peak of the process,",
        f"which has reached {how['bytes loaded'] / 1e6:.0f} MB once the model is loaded. Another question about",
        "the same documents reads none of them again.",
        "Printed by `OMP_NUM_THREADS=1 python benchmarks/documents.py`.",
        "",
        "| documents | tokens | seconds | MB at the peak |",
        "|---|---|---|---|",
    ]
    for m in found:
        documents, tokens, peak = (m.inputs[key] for key in ("passages", "tokens", "bytes at the peak"))
        lines.append(f"| {documents} | {tokens:,} | {m.ratio:.1f} | {peak / 1e6:,.0f} |")
    return [*lines, ""]


def write_page(measurements: Sequence[Measurement], command: str, picture: str = "") -> str:
    """Return the page in Markdown, with a picture after the targets."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("at2-prune", "torch", "transformers"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cpu, *others = by_device(measurements).items()
    lines = [
        "# Performance",
        "",
        "Written by `make bench` from `benchmarks/results.json`; do not edit. A ratio of times compares two ways in",
        "one process, in alternating order, by their medians, and its interval is bootstrapped over the pairs. Where",
        "a row is not such a ratio, its name says what it is, and its interval is the range of the measured values.",
        "The plain loop of ablations is one whole forward pass for each, sources masked, with the logits of every row,",
        "as in the published training code. The lean loop computes the logits of the target's rows only.",
        "",
        f"Machine: {_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {device}. "
        f"Python {platform.python_version()}, {versions}.",
        f"Command: `{command}`"
        + (", added to the results of earlier commands with other parts." if "--add" in command else ""),
        "",
        "## Targets",
        "",
        *targets(cpu[1]),
        "",
        *(line for name, some in others for line in (f"On {name}:", "", *targets(some), "")),
        *picture.splitlines(),
        *floors(cpu[1]),
        *many_documents(measurements),
        "## Everything measured",
        "",
        "| | ratio | interval | limit | inputs |",
        "|---|---|---|---|---|",
    ]
    for m in measurements:
        inputs = ", ".join(f"{key} {value}" for key, value in m.inputs.items())
        limit = "" if m.limit is None else f"{m.limit:.4g}"
        lines.append(f"| {m.name} | {m.ratio:.4g} | [{m.low:.4g}, {m.high:.4g}] | {limit} | {inputs} |")
    return "\n".join(lines) + "\n"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
