"""Compare two ways of doing the same work. Every function yields measurements."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import Measurement, median, paired
from workload import Case, case, coefficients_of, described, device_of, endless, load_model, untouched

from at2_prune import AT2Pruner, LanguageModel
from at2_prune.ablation import ablation_outcomes, log_odds, random_masks
from at2_prune.errors import ModelNotSupportedError
from at2_prune.models.default_model import embedded_is_cached, embedded_is_installed, embedded_model_path
from at2_prune.models.drafts import Draft, read_drafts, write_drafts
from at2_prune.scorers import GradientXInputScorer, LearnedScorer, Task
from at2_prune_eval.loop.cost import metered

__all__ = ["ablating", "answering", "drafting", "loading", "precision", "scoring", "starting"]


def drafting(lm: LanguageModel, some: Case, draft: int, pairs: int, limit: float | None) -> Iterator[Measurement]:
    """Time drafting with attribution, divided by plain `generate` of the same tokens."""
    coefficients, _ = coefficients_of(lm, "at2")
    scorer, prompt = LearnedScorer(coefficients), some.prompt
    ids = torch.tensor([prompt.ids], device=lm.device)
    model: Any = lm.model

    def attributed() -> torch.Tensor:
        written = write_drafts(lm, [prompt], scorer.row_groups, draft, scorer.layers)[0]
        return scorer.score(Task(lm, some.question, some.passages, prompt, written))

    def plain() -> Any:
        mask = torch.ones_like(ids)
        return model.generate(ids, attention_mask=mask, max_new_tokens=draft, do_sample=False, pad_token_id=0)

    with endless(lm):
        inputs = described(lm, some, draft=draft)
        yield paired(
            "drafting with attribution / generate", inputs, attributed, plain, pairs, limit, lambda: untouched(lm)
        )


def scoring(lm: LanguageModel, some: Case, draft: int, pairs: int, limit: float | None) -> Iterator[Measurement]:
    """Time three ways to score a given draft, each divided by a forward pass.

    The ways are head coefficients, gradient x input, and average attention from eager weights.
    """
    coefficients, _ = coefficients_of(lm, "at2")
    scorer, prompt = LearnedScorer(coefficients), some.prompt
    target = (prompt.ids[prompt.question[0] : prompt.question[1]] * draft)[:draft]
    ids = torch.tensor([[*prompt.ids, *target[:-1]]], device=lm.device)
    options: dict[str, Any] = {"logits_to_keep": 1} if lm.compatibility.keeps_logits else {}
    inputs = described(lm, some, draft=draft)

    def task(written: Draft) -> Task:
        return Task(lm, some.question, some.passages, prompt, written)

    def given() -> torch.Tensor:
        return scorer.score(task(read_drafts(lm, [prompt], [target], scorer.row_groups, scorer.layers)[0]))

    def forward() -> Any:
        return lm.model(input_ids=ids, use_cache=False, **options)

    bare = partial(untouched, lm)
    yield paired("scoring a given draft / forward pass", inputs, given, forward, pairs, limit, bare)
    if len(prompt) > 3000:  # the next ways hold every layer's activations, or tokens x tokens weights
        return
    few = max(1, pairs // 3)
    gradient = partial(GradientXInputScorer().score, task(Draft("", target)))
    yield paired("gradient x input / forward pass", inputs, gradient, forward, few, None, bare)
    with untouched(lm, "eager") as model:

        def eager() -> list[torch.Tensor]:
            weights = model(input_ids=ids, use_cache=False, output_attentions=True, **options).attentions
            rows = torch.stack([layer[0, :, len(prompt) - 1 :] for layer in weights]).mean((0, 1, 2))
            return [rows[start:stop].sum() for start, stop in prompt.sources]

        measured = paired("output_attentions=True / forward pass", inputs, eager, forward, few, None, bare)
    yield measured


def ablating(lm: LanguageModel, some: Case, count: int, pairs: int, limit: float | None) -> Iterator[Measurement]:
    """Time the ablation engine, divided by a loop of one masked pass per mask, and compare their log-odds.

    The plain loop runs a whole pass with the logits of every row, as the published code does. The lean loop computes
    the logits of the target's rows only.

    Args:
        lm: the model.
        some: the question that is ablated.
        count: the number of random ablations. Twice as many are measured too, with fewer pairs and the lean loop only.
        pairs: how many times both ways are run.
        limit: the limit of the ratios.
    """
    prompt, target = some.prompt, lm.encode_draft("the Meuse, in the south")
    sources = len(prompt.sources)
    ids = torch.tensor([[*prompt.ids, *target[:-1]]], device=lm.device)
    target_only: dict[str, Any] = {"logits_to_keep": len(target)} if lm.compatibility.keeps_logits else {}
    without = torch.cat([torch.ones(1, sources, dtype=torch.bool), ~torch.eye(sources, dtype=torch.bool)])
    drawn, more = (random_masks(sources, n, torch.Generator().manual_seed(0)) for n in (count, 2 * count))

    def loop(masks: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        outcomes = []
        for mask in masks.tolist():
            present = torch.ones_like(ids)
            for keep, (start, stop) in zip(mask, prompt.sources, strict=True):
                present[0, start:stop] = int(keep)
            places = torch.arange(ids.shape[1], device=lm.device)[None]
            logits = lm.model(input_ids=ids, attention_mask=present, position_ids=places, use_cache=False, **options)
            rows = logits.logits[0, -len(target) :].float().log_softmax(-1)
            outcomes.append(rows.gather(1, torch.tensor(target, device=lm.device)[:, None]).sum())
        return log_odds(torch.stack(outcomes).cpu())

    scorer = LearnedScorer(coefficients_of(lm, "at2")[0])

    def scored() -> torch.Tensor:
        written = read_drafts(lm, [prompt], [target], scorer.row_groups, scorer.layers)[0]
        return scorer.score(Task(lm, some.question, some.passages, prompt, written))

    inputs = described(lm, some, ablations=count, draft=len(target))
    outcomes = partial(ablation_outcomes, lm, prompt, target, drawn)
    yield paired("scoring a given draft / ablations by the engine", inputs, scored, outcomes, pairs)
    bare = partial(untouched, lm)
    for name, masks, times, loops in (
        ("random ablations", drawn, pairs, ("lean", "plain")),
        ("random ablations", more, max(1, pairs // 2), ("lean",)),
        ("leave-one-out", without, pairs, ("lean", "plain")),
    ):
        inputs = described(lm, some, ablations=len(masks), draft=len(target))
        engine = partial(ablation_outcomes, lm, prompt, target, masks)
        lean = partial(loop, masks, target_only)
        for kind in loops:
            way = lean if kind == "lean" else partial(loop, masks, {})
            what = f"{name}: engine / {kind} loop"
            yield paired(what, inputs, engine, way, times, limit, bare, warm_up=kind == "lean")
        with metered(lm) as ours:
            engine()
        work = ours.tokens / (len(masks) * ids.shape[1])
        yield Measurement(f"{name}: tokens run, engine / loop", inputs, work, work, work)
        with bare():
            reference = lean()
        gap = float((engine()[:, 0] - reference).abs().max())
        exact = 1e-4 if lm.model.dtype == torch.float32 else None
        yield Measurement(f"{name}: largest difference of log-odds", inputs, gap, gap, gap, exact)


def answering(lm: LanguageModel, some: Case, pairs: int, limit: float | None) -> Iterator[Measurement]:
    """Time draft, prune and answer, divided by two calls of `generate`."""
    coefficients, origin = coefficients_of(lm, "at2")
    pruner = AT2Pruner(lm, LearnedScorer(coefficients))
    answer = partial(pruner.answer, some.question, some.passages, 3)
    short = lm.encode(some.question, [some.passages[i] for i in sorted(answer().kept)])

    def plain() -> None:
        for prompt in (some.prompt, short):
            lm.generate([prompt], pruner.max_new_tokens)

    inputs = described(lm, some, k=3, short=len(short), coefficients=origin)
    name = "draft, prune, answer / two generates"
    yield paired(name, inputs, answer, plain, pairs, limit, partial(untouched, lm))


def loading(times: int, gguf: bool) -> Iterator[Measurement]:
    """Time loading the embedded model from its cache, in seconds, and divided by loading it from GGUF."""
    if not embedded_is_cached():
        return
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        LanguageModel.load()
        taken.append(time.perf_counter() - started)
        gc.collect()
    seconds = median(taken)
    inputs = {"model": "gemma-3-270m", "times": times}
    yield Measurement("loading the embedded model, seconds", inputs, seconds, min(taken), max(taken), 2.0)
    if gguf and embedded_is_installed():
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            embedded_model_path(Path(folder))
            whole = time.perf_counter() - started
        inputs = {**inputs, "gguf seconds": round(whole, 1)}
        yield Measurement(
            "loading the embedded model / from GGUF", inputs, *(t / whole for t in (seconds, min(taken), max(taken)))
        )


def starting(times: int) -> Iterator[Measurement]:
    """Time importing the package and printing the command line's help, in seconds, without the start of Python."""
    ways = {
        "importing at2_prune, seconds": ("import at2_prune", 0.1),
        "at2-prune --help, seconds": ("import sys; sys.argv = ['at2-prune', '--help']; import at2_prune.__main__", 0.3),
    }
    for name, (code, limit) in ways.items():
        program = f"import time; started = time.perf_counter()\ntry:\n    {code}\n"
        program += "except SystemExit: pass\nimport sys; print(time.perf_counter() - started, file=sys.stderr)"
        taken = []
        for _ in range(times):
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            taken.append(float(done.stderr))
        yield Measurement(name, {"times": times}, median(taken), min(taken), max(taken), limit)


def precision(name: str | None, device: str | None, passages: int, questions: int) -> Iterator[Measurement]:
    """Measure the change of scores in 16 bits: Kendall's tau with float32, and how often the top three change."""
    from scipy.stats import kendalltau

    full = load_model(name, device, dtype="float32")
    cases = [case(full, passages, index=i) for i in range(questions)]
    drafts = [write_drafts(full, [some.prompt])[0] for some in cases]
    scorer = LearnedScorer(coefficients_of(full, "at2")[0])

    def scores(lm: LanguageModel) -> list[torch.Tensor]:
        tasks = [
            Task(lm, some.question, some.passages, some.prompt, _reading(lm, scorer, some, draft.ids))
            for some, draft in zip(cases, drafts, strict=True)
            if draft.ids
        ]
        return [scorer.score(task).cpu() for task in tasks]

    exact = scores(full)
    for dtype in ("bfloat16", "float16"):
        what = f"{dtype}, {scorer.name}"
        try:
            pairs = list(zip(exact, scores(load_model(name, device, dtype=dtype)), strict=True))
        except ModelNotSupportedError as error:
            print(f"{what}: {error}", file=sys.stderr)
            continue
        taus = [float(kendalltau(a, b).statistic) for a, b in pairs]
        gaps = [float((a - b).abs().max() / (a.max() - a.min())) for a, b in pairs]
        share = sum({*a.topk(3).indices.tolist()} != {*b.topk(3).indices.tolist()} for a, b in pairs) / len(pairs)
        inputs = {"model": full.name, "device": device_of(full), "passages": passages, "questions": len(pairs)}
        yield Measurement(f"{what}: Kendall tau with float32 (median, range)", inputs, *_spread(taus))
        yield Measurement(f"{what}: share of questions whose top 3 change", inputs, *[share] * 3)
        over = f"{what}: largest change of a score, over their range (median, range)"
        yield Measurement(over, inputs, *_spread(gaps))


def _reading(lm: LanguageModel, scorer: LearnedScorer, some: Case, draft: Sequence[int]) -> Draft:
    return read_drafts(lm, [some.prompt], [draft], scorer.row_groups, scorer.layers)[0]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)
