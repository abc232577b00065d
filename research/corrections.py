"""Correct attention mass by length, position or a content-free question; recall of gold passages, cross-validated.

    $ python research/corrections.py runs/scout6 --data hotpotqa/train.jsonl --layer 5 --calibrate 150 --dtype bfloat16

Takes a folder of `at2-prune train --learn-from evidence` and the questions it was made from. Some corrections
are learned with the coefficients, as further features. Others change the attention mass before the fit. One divides it
by the tokens of a passage. Another subtracts the mass of the same head and passages under the question "N/A"
(contextual calibration, Zhao et al., 2102.09690); this is read for --calibrate questions. Intervals are 95 %, by
bootstrap over questions; differences are paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from folds import BEST, FOLDS, cross_fitted, load, only
from tqdm import tqdm

from at2_prune.attention.rows import RowGroup
from at2_prune.bootstrap import bootstrap_difference, bootstrap_mean
from at2_prune.datasets import Question, load_questions
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.readouts import read_prompts
from at2_prune.training import EvidenceSettings, Example, fit_evidence

NOTHING_ASKED = "N/A"
GROUPS = [RowGroup.from_name(name) for name in BEST]


def found(examples: Sequence[Example], settings: EvidenceSettings | None = None) -> dict[str, list[float]]:
    """Return a value of each measure for each example, from coefficients fitted to the other folds."""
    values = cross_fitted(
        examples, GROUPS, lambda some, fold: fit_evidence(some, GROUPS, [0], settings or EvidenceSettings())
    )
    return {"recall@2": values["gold_recall@2"], "both@3": values["both_gold@3"]}


def with_features(example: Example, *features: torch.Tensor) -> Example:
    """Add features of an example's sources, `(sources,)` each, as further heads of the first rows."""
    mass = {}
    for name, value in example.mass.items():  # (1, 1, heads, sources), and once more sources for links
        more = torch.zeros(1, 1, len(features), *value.shape[3:])
        if name == BEST[0]:
            more[0, 0] = torch.stack(features)
        mass[name] = torch.cat([value, more], 2)
    return replace(example, mass=mass)


def less(example: Example, blank: Example, ratio: bool) -> Example:
    """Correct the example's mass by the mass of the same sources under a content-free question."""
    mass = dict(example.mass)
    for name in BEST[:2]:  # links do not depend on the question
        base = blank.mass[name]
        mass[name] = mass[name] / (base + 1e-4) if ratio else mass[name] - base
    return replace(example, mass=mass)


def read_blank(language_model: LanguageModel, example: Example, question: Question) -> Example:
    prompt = language_model.encode(NOTHING_ASKED, question.passages)
    read = read_prompts(language_model, [prompt], GROUPS, example.layers)[0]
    return replace(example, mass={group.name: read.mass[group][None].float() for group in GROUPS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of at2-prune train --learn-from evidence")
    parser.add_argument("--data", required=True, help="the questions of that folder")
    parser.add_argument("--layer", type=int, default=5, help="the layer to read (default: 5)")
    parser.add_argument("--calibrate", type=int, default=0, metavar="N", help="questions to read anew (default: none)")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    language_model = LanguageModel.load(dtype=args.dtype)
    questions = {question.id: question for question in load_questions(args.data)}
    examples = load(args.run)
    examples = [only(example, [example.layers.index(args.layer)]) for example in examples]
    lengths, places = [], []
    for example in examples:
        question = questions[example.question_id]
        spans = language_model.encode(question.text, question.passages).sources
        lengths.append(torch.tensor([float(stop - start) for start, stop in spans]))
        places.append(torch.arange(len(spans)) / max(1, len(spans) - 1))
    base = found(examples)

    def line(title: str, values: dict[str, list[float]], reference: dict[str, list[float]] = base) -> None:
        gain = bootstrap_difference(values["recall@2"], reference["recall@2"])
        means = "  ".join(f"{bootstrap_mean(values[name])!s:<20}" for name in values)
        print(f"{title:<44}{means}  {gain}", flush=True)

    print(f"{len(examples)} questions, {FOLDS} folds, layer {args.layer}; 95 % intervals over questions\n")
    print(f"{'':<44}{'recall@2':<22}{'both@3':<22}recall@2, difference to mass")
    line("mass", base)
    a_token = []
    for example, length in zip(examples, lengths, strict=True):
        mass = {name: example.mass[name] / length if name in BEST[:2] else example.mass[name] for name in BEST}
        a_token.append(replace(example, mass=mass))
    line("mass per token", found(a_token))
    logs = [length.log() for length in lengths]
    line("length learned", found([with_features(e, n) for e, n in zip(examples, logs, strict=True)]))
    line("position learned", found([with_features(e, p, p**2) for e, p in zip(examples, places, strict=True)]))
    both = [with_features(e, n, p, p**2) for e, n, p in zip(examples, logs, places, strict=True)]
    line("length and position learned", found(both))
    for penalty in (0.0001, 0.001, 0.1, 1.0):
        line(f"L2 penalty {penalty:g} (0.01 ships)", found(examples, EvidenceSettings(penalty=penalty)))
    if not args.calibrate:
        return
    some = examples[: args.calibrate]
    blanks = [read_blank(language_model, e, questions[e.question_id]) for e in tqdm(some, unit="question")]
    fewer = found(some)
    line(f"mass, first {len(some)} questions", fewer, fewer)
    for title, ratio in (("less the content-free question's", False), ("over the content-free question's", True)):
        line(title, found([less(e, blank, ratio) for e, blank in zip(some, blanks, strict=True)]), fewer)


if __name__ == "__main__":
    main()
