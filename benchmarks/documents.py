"""Measure the cost of scoring many new documents with scout: seconds, and the memory of the process.

    OMP_NUM_THREADS=1 python benchmarks/documents.py [--documents 10 50 100] [--tokens 540] [--model NAME]

Prints a line for each number of documents, and the section of docs/performance.md. With --save, the measurements go to
benchmarks/results.json, from which `attribution.py --add` writes the page. Each number of documents runs in its own
process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from index_cost import scout_coefficients_of
from measuring import Measurement, load, merged, save
from performance_page import DOCUMENTS, many_documents
from workload import device_of, load_model

from at2_prune import AT2Pruner, Passage, load_questions, sample_questions_path
from at2_prune.scorers.scout import ScoutScorer
from at2_prune_eval.loop.cost import peak_memory, reset_peak

RESULTS = Path(__file__).with_name("results.json")


def run(documents: int, tokens: int, model: str | None) -> Measurement:
    """Score a number of documents of about `tokens` tokens each once, after a warm-up."""
    lm = load_model(model)
    pruner = AT2Pruner(lm, ScoutScorer(scout_coefficients_of(lm)[0]))
    question, *others = load_questions(sample_questions_path())
    words = " ".join(passage.text for one in (question, *others) for passage in one.passages).split()
    length = len(words) * tokens // len(lm.codec.plain(" ".join(words))[0])
    starts = [i * length % (len(words) - length) for i in range(documents)]
    passages = [Passage(f"{i}. " + " ".join(words[start : start + length])) for i, start in enumerate(starts)]
    pruner.score(question.text, passages[:2])
    loaded = reset_peak(lm.device)
    started = time.perf_counter()
    pruner.score(question.text, passages)
    seconds = time.perf_counter() - started
    inputs = {
        "model": lm.name,
        "device": device_of(lm),
        "threads": torch.get_num_threads(),
        "passages": documents,
        "tokens": len(lm.encode(question.text, passages)),
        "bytes loaded": loaded,
        "bytes at the peak": peak_memory(lm.device),
        "times": 1,
    }
    return Measurement(DOCUMENTS, inputs, seconds, seconds, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[10, 50, 100], metavar="N")
    parser.add_argument(
        "--tokens", type=int, default=540, metavar="N", help="tokens of a document, about (default: 540)"
    )
    parser.add_argument("--model", metavar="NAME", help='default: the embedded one; "random" needs no download')
    parser.add_argument("--save", action="store_true", help=f"add to {RESULTS.name}")
    parser.add_argument("--alone", action="store_true", help="run one number in this process, and print JSON")
    args = parser.parse_args()
    if args.alone:
        measured = run(args.documents[0], args.tokens, args.model)
        print(json.dumps([measured.inputs, measured.ratio]))
        return 0
    found = []
    for documents in args.documents:
        command = [sys.executable, __file__, "--alone", "--documents", str(documents), "--tokens", str(args.tokens)]
        command += ["--model", args.model] if args.model else []
        # memory that loading gave back to the allocator must not hide a peak
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        inputs, seconds = json.loads(done.stdout.splitlines()[-1])
        found.append(Measurement(DOCUMENTS, inputs, *[seconds] * 3))
        print(f"{documents} documents, {inputs['tokens']} tokens: {seconds:.1f} s", file=sys.stderr)
        if args.save:
            save(merged(load(RESULTS), found), RESULTS)
    print("\n".join(many_documents(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
