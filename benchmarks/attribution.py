"""Measure the cost of attribution, and the cost of the work that it is compared with.

    python benchmarks/attribution.py [--quick] [--model NAME] [--pairs 15] [--only drafting memory ...]

Prints a table while it measures, and writes benchmarks/results.json and docs/performance.md. The main model is the
embedded one by default; long measurements use a random model. `--model random` needs no download. The part `long`
drafts from 160 passages, about 20,000 tokens, with the main model; this takes minutes on a small CPU. The exit code is
1 if a limit is exceeded and the page gives no reason for it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from comparisons import ablating, answering, drafting, loading, precision, scoring, starting
from index_cost import index_cost, kept_passages
from learning import calibrating, learning
from measuring import Measurement, load, merged, save, show
from memory import growth, peaks
from own_time import own_time
from performance_figure import NAME, PASSAGES, attribution_cost, passages_cost, passages_picture, picture
from performance_page import by_device, explained, over_limit, targets, write_page
from published import published
from serving import serving
from workload import QWEN, RANDOM, case, load_model

from at2_prune.training import CollectSettings
from at2_prune_eval.figures.style import save_figure

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "drafting",
    "published",
    "scoring",
    "ablating",
    "answering",
    "index",
    "larger",
    "learning",
    "calibrating",
    "loading",
    "memory",
    "growth",
    "precision",
    "serving",
    "long",
)


def measure(args: argparse.Namespace) -> Iterator[Measurement]:
    """Yield the measurements that the options ask for. The main model at ten passages comes first."""
    parts, quick, pairs = set(args.only or PARTS), args.quick, args.pairs
    few = max(1, pairs // 3)  # for runs that take minutes
    sizes = [5, 10] if quick else [10, 40, 160]
    drafts = [4, 8] if quick else [8, 64, 256]
    lm = load_model(args.model, args.device)
    some = case(lm, sizes[0])
    tiny = lm if lm.name == RANDOM else load_model(RANDOM, args.device)
    if "drafting" in parts:
        for draft in drafts:
            # the shortest draft has more pairs: a difference of a hundredth is hard to measure
            times = 3 * pairs if draft == drafts[0] else pairs if draft < 100 else few
            yield from drafting(lm, some, draft, times, 1.01)
            yield from own_time(lm, some, draft, few, 0.01)
        yield from drafting(lm, case(lm, sizes[0], "sentence"), drafts[0], few, None)
    if "published" in parts:
        if args.at2_path:
            try:
                yield from published(sizes[0], drafts[0], few, args.at2_path)
            except Exception as error:  # the code of others, which may need another version of transformers
                print(f"published AT2 skipped: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            print("published AT2 skipped: --at2-path not given", file=sys.stderr)
    if "scoring" in parts:
        yield from scoring(lm, some, drafts[0], pairs, 1.03)
    if "ablating" in parts:
        yield from ablating(lm, some, 8 if quick else 32, few, 1 / 3)
    if "answering" in parts:
        yield from answering(lm, some, pairs, 1.05)
    if "index" in parts:
        yield from index_cost(lm, some, pairs, args.cross_encoder, args.embedder)
        sizes_kept = [5, 10] if quick else [10, 20, 50, 100, 200, 1000]
        yield from kept_passages(lm, sizes_kept, 1 if quick else 3, args.cross_encoder)
    if "larger" in parts:
        for size in sizes[1:]:
            on = tiny if size == sizes[-1] else lm
            larger = case(on, size)
            yield from drafting(on, larger, drafts[0], few, None)
            yield from drafting(on, case(on, size, "sentence"), drafts[0], few, None)
            yield from scoring(on, larger, drafts[0], few, None)
    if "learning" in parts:
        yield from learning(lm, sizes[0], CollectSettings(ablations=8), 1 if quick else 3)
    if "calibrating" in parts and not quick:
        for dtype in ("float32", "bfloat16"):
            yield from calibrating(load_model(QWEN, args.device, dtype))
    if "loading" in parts and args.model is None:
        yield from loading(3 if quick else 7, gguf=not quick)
        yield from starting(3 if quick else 7)
    if "memory" in parts:
        for name, size in ((args.model, sizes[1]), (RANDOM, sizes[-1])):
            yield from peaks(name, size, drafts[len(drafts) // 2], 1 if quick else 3)
    if "growth" in parts:
        yield from growth(RANDOM, sizes, drafts, 1 if quick else 3)
    if "precision" in parts:
        yield from precision(args.model, args.device, sizes[0], 2 if quick else 12)
    if "serving" in parts:
        yield from serving(tiny, 5, 2, 8 if quick else 48, 1 if quick else 5, 20 if quick else 1000)
        if not quick and lm is not tiny:
            yield from serving(lm, 5, 2, 16, 1, 0)
    if "long" in parts and not quick:
        yield from peaks(args.model, sizes[-1], drafts[1], 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="NAME", help='default: the embedded one; "random" needs no download')
    parser.add_argument("--device", help="the device for this process (default: a GPU if there is one)")
    parser.add_argument("--quick", action="store_true", help="small inputs, to see that everything runs")
    parser.add_argument("--pairs", type=int, metavar="N", help="pairs of timed runs (default: 15; 3 with --quick)")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help=f"measure only some of {' '.join(PARTS)}"
    )
    parser.add_argument(
        "--add", action="store_true", help="keep the measurements in --out that this run does not repeat"
    )
    parser.add_argument("--at2-path", type=Path, metavar="PATH", help="folder with the published package at2")
    parser.add_argument("--cross-encoder", metavar="NAME", help="a reranker, timed beside scout in the part index")
    parser.add_argument("--embedder", metavar="NAME", help="an embedder for scout_dense, timed in the part index")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the results (default: benchmarks/results.json, quick.json with --quick)",
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="default: docs/performance.md, none with --quick")
    args = parser.parse_args()
    args.pairs = args.pairs or (3 if args.quick else 15)
    args.out = args.out or ROOT / "benchmarks" / ("quick.json" if args.quick else "results.json")
    page = args.page or (None if args.quick else ROOT / "docs" / "performance.md")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.pairs} pairs", file=sys.stderr)
    earlier = load(args.out) if args.add else []
    measured: list[Measurement] = []
    for measurement in measure(args):
        print(show(measurement), flush=True)
        measured.append(measurement)
        save(merged(earlier, measured), args.out)  # an interruption keeps the earlier measurements
    everything = load(args.out)
    devices = by_device(everything)
    for device, some in devices.items():
        print("\n".join(["", device, *targets(some)]))
    if page:
        command = f"python benchmarks/attribution.py {shlex.join(map(_shown, sys.argv[1:]))}".strip()
        drawn = picture(devices["cpu"], "figures")
        if drawn:
            save_figure(attribution_cost(devices["cpu"]), page.parent / "figures", NAME)
        more = passages_picture(devices["cpu"], "figures")
        if more:
            save_figure(passages_cost(devices["cpu"]), page.parent / "figures", PASSAGES)
        page.write_text(write_page(everything, command, drawn + more))
    return int(any(over_limit(m) and not explained(m) for m in measured))


def _shown(argument: str) -> str:
    """Return an argument as the page shows it: an absolute path becomes DIR."""
    return "DIR" if Path(argument).is_absolute() else argument


if __name__ == "__main__":
    sys.exit(main())
