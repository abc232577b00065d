"""Measure queries per second through one adapter and one model: serial, in 16 threads, as 64 coroutines.

    python benchmarks/throughput.py [--adapter langchain|llama-index] [--queries 64] [--passages 10]

Prints each way's queries per second and its ratio to serial calls, and checks that all ways return the same. The config
comes from the environment: `AT2_PRUNE_MODEL`, `AT2_PRUNE_DEVICE`, `AT2_PRUNE_METHOD` …
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from at2_prune import Question, load_questions, sample_questions_path
from at2_prune.pipeline.config import PruneConfig

THREADS = 16
Ways = tuple[Callable[[Question], Any], Callable[[Question], Awaitable[Any]]]


def langchain(config: PruneConfig) -> Ways:
    from langchain_core.documents import Document

    from langchain_at2_prune import AT2DocumentCompressor

    compressor = AT2DocumentCompressor.from_config(config)

    def documents(question: Question) -> list[Document]:
        return [Document(p.text, metadata={"title": p.title}) for p in question.passages]

    return (
        lambda question: compressor.compress_documents(documents(question), question.text),
        lambda question: compressor.acompress_documents(documents(question), question.text),
    )


def llama_index(config: PruneConfig) -> Ways:
    from llama_index.core.schema import NodeWithScore, TextNode

    from llama_index.postprocessor.at2_prune import AT2Postprocessor

    postprocessor = AT2Postprocessor.from_config(config)

    def nodes(question: Question) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=TextNode(text=p.text, id_=p.id, metadata={"title": p.title})) for p in question.passages
        ]

    return (
        lambda question: postprocessor.postprocess_nodes(nodes(question), query_str=question.text),
        lambda question: postprocessor.apostprocess_nodes(nodes(question), query_str=question.text),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", choices=["langchain", "llama-index"], default="langchain")
    parser.add_argument("--queries", type=int, default=64, metavar="N", help="number of queries (default: 64)")
    parser.add_argument("--passages", type=int, default=10, metavar="N", help="passages of a question (default: 10)")
    args = parser.parse_args()
    questions = [replace(q, passages=q.passages[: args.passages]) for q in load_questions(sample_questions_path())]
    asked = [questions[i % len(questions)] for i in range(args.queries)]
    now, later = (langchain if args.adapter == "langchain" else llama_index)(PruneConfig.load())
    now(asked[0])  # loads the model
    print(f"{args.adapter}, {len(asked)} queries of {args.passages} passages, {torch.get_num_threads()} torch threads")

    def serial() -> list[Any]:
        return [now(question) for question in asked]

    def threads() -> list[Any]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(now, asked))

    def coroutines() -> list[Any]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*(later(question) for question in asked))

        return asyncio.run(gather())

    results, seconds = {}, {}
    for way in (serial, threads, coroutines):
        print(f"{way.__name__} ...", end="\r", file=sys.stderr)
        started = time.perf_counter()
        results[way.__name__] = way()
        seconds[way.__name__] = time.perf_counter() - started
        rate, ratio = len(asked) / seconds[way.__name__], seconds["serial"] / seconds[way.__name__]
        same = results[way.__name__] == results["serial"]
        print(f"{way.__name__:<11} {rate:6.2f} queries/s  {ratio:4.2f} x serial  {'same' if same else 'NOT THE SAME'}")
    return 0 if all(result == results["serial"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
