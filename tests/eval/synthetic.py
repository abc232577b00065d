"""Results of a made-up run: every method, every k, drawn at random around chosen means."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from at2_prune.bootstrap import bootstrap_mean
from at2_prune_eval.results.summary import summarize

# name: (gold recall at k = 1, forward passes to choose, looks at the draft)
METHODS: dict[str, tuple[float, float, bool]] = {
    "random": (0.10, 0, False),
    "retriever_order": (0.10, 0, False),
    "bm25": (0.36, 0, False),
    "dense": (0.33, 0, False),
    "average_attention": (0.06, 0, True),
    "last_layer_attention": (0.12, 0, True),
    "gradient_x_input": (0.17, 3, True),
    "leave_one_out": (0.24, 8.9, True),
    "surrogate_32": (0.20, 16, True),
    "surrogate_64": (0.23, 32, True),
    "at2": (0.18, 0, True),
    "contribution": (0.13, 0, True),
    "contribution_learned": (0.21, 0, True),
    "effective_attention": (0.08, 0, True),
    "effective_attention_learned": (0.2, 0, True),
    "cross_encoder": (0.42, 0, False),
}
WITHOUT_DRAFT = {"scout": (0.42, 0.33, False), "fusion": (0.43, 0.33, False)}
KS = (1, 2, 3, 4, 5, 7)
WORDS = [
    "river",
    "bridge",
    "sculptor",
    "island",
    "orchestra",
    "railway",
    "painter",
    "valley",
    "harbour",
    "opera",
    "bassoon",
    "lake",
]


def make_records(
    n: int = 40, methods: tuple[str, ...] = tuple(METHODS), ks: tuple[int, ...] = KS, passages: int = 10
) -> list[dict[str, Any]]:
    """Lines of `questions.jsonl`: better ranking keeps more gold passages, and these make right answers likelier."""
    random = np.random.default_rng(0)
    return [_record(index, methods, ks, passages, random) for index in range(n)]


def _record(
    index: int, methods: tuple[str, ...], ks: tuple[int, ...], passages: int, random: np.random.Generator
) -> dict[str, Any]:
    def words(count: int) -> str:
        return " ".join(random.choice(WORDS, count))

    gold = sorted(map(int, random.choice(passages, 2, replace=False)))
    truth, wrong, ease = words(2), words(2), random.random()

    def entry(kept: list[int]) -> dict[str, Any]:
        found = len(set(kept) & set(gold))
        f1 = float(ease < (0.12, 0.22, 0.5)[found] - 0.02 * len(kept))
        precision, recall = found / len(kept), found / 2
        return {
            "kept": kept,
            "answer": truth if f1 else wrong,
            "em": f1,
            "f1": f1,
            "precision": f1,
            "recall": f1,
            "gold_precision": precision,
            "gold_recall": recall,
            "gold_f1": 2 * precision * recall / (precision + recall) if found else 0.0,
            "both_gold": float(found == 2),
            "passages": len(kept),
            "prompt_tokens": 160 + 120 * len(kept),
        }

    def cost(passes: float) -> dict[str, Any]:
        return {
            "seconds": 0.01 + 1.9 * passes * (0.9 + 0.2 * random.random()),
            "tokens": 1400 * passes,
            "memory": 2**20,
        }

    everything = list(range(passages))
    free: dict[str, Any] = {"scores": None, "cost": cost(0), "fell_back": False}
    record: dict[str, Any] = {
        "id": f"q{index}",
        "question": f"Which {words(3)} is older than the {words(2)}?",
        "answer": truth,
        "aliases": [],
        "kind": "bridge",
        "gold": gold,
        "passages": [{"title": words(2).title(), "text": f"{words(40)}."} for _ in everything],
        "draft": entry(everything)["answer"],
        "prompt_tokens": 1400,
        "draft_cost": cost(1.02),
        "methods": {"none": {**free, "uses_draft": True, "at": {"all": entry(everything)}}},
    }
    for name in methods:
        strength, passes, uses_draft = (METHODS | WITHOUT_DRAFT)[name]
        scores = random.normal(0, 1, passages)
        scores[gold] += 5 * (strength - 0.1)
        order = [int(i) for i in np.argsort(-scores)]
        record["methods"][name] = {
            "scores": [float(score) / 100 for score in scores],
            "uses_draft": uses_draft,
            "cost": cost(passes),
            "fell_back": False,
            "at": {str(k): entry(sorted(order[:k])) for k in ks},
        }
    record["methods"]["oracle"] = {**free, "uses_draft": False, "at": {"gold": entry(gold)}}
    return record


def make_results(records: list[dict[str, Any]], faithfulness: bool = True) -> dict[str, Any]:
    """`results.json` of these records."""
    names = list(records[0]["methods"])
    rivals = [name for name in names if name not in ("none", "oracle")]
    described: dict[str, Any] = {name: {} for name in names}
    if "at2" in names:
        described["at2"] = {"coefficients": {"row_groups": ["draft"], "sha256": "dd0cda97406a54da"}}
    config = {
        "model": "gemma-3-270m",
        "dtype": "bfloat16",
        "device": "cpu",
        "prompt": {"name": "text-v1", "sha256": "ca171b77fefb1f7d"},
        "data": {
            "name": "validation.jsonl",
            "split": None,
            "limit": len(records),
            "offset": None,
            "seed": 0,
            "types": ["bridge"],
            "shuffle_passages": 0,
            "questions": len(records),
            "sha256": "05f38ab71ed825a7",
        },
        "methods": described,
        "ks": list(records[0]["methods"][rivals[0]]["at"]) if rivals else [],
        "max_new_tokens": 48,
        "versions": {"at2-prune": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
    }
    results = summarize(records, config, {})
    if faithfulness:
        results["faithfulness"] = {"passage": _faithfulness(rivals, 10), "sentence": _faithfulness(rivals, 30)}
    return results


def _faithfulness(names: list[str], sources: int) -> dict[str, Any]:
    random = np.random.default_rng(sources)

    def around(mean: float, spread: float) -> dict[str, float]:
        return _estimate(random.normal(mean, spread, 60))

    known = METHODS | WITHOUT_DRAFT
    strength = {name: known[name][0] + known[name][1] / 60 for name in names}
    return {
        "n": 60,
        "left_out": {"empty draft": 2},
        "settings": {"permutation_k": 2, "permutations": 3},
        "ablations": 32,
        "ks": [1, 3, 5],
        "lds": {name: around(2 * value - 0.1, 0.4) for name, value in strength.items()},
        "top_k_drop": {
            name: {str(k): around(value * 4 * k**0.5, 2) for k in (1, 3, 5)} for name, value in strength.items()
        },
        "kendall": {
            other: {name: around(value, 0.3) for name, value in strength.items()}
            for other in ("gradient_x_input", "leave_one_out")
        },
        "permutation": {
            name: {
                "scores": around(0.5 + value / 2, 0.4),
                "permuted": around(0.4, 0.4),
                "difference": around(value / 2, 0.4),
            }
            for name, value in strength.items()
        },
        "order": {
            name: {"content": around(value, 0.3), "position": around(0.3 - value, 0.3)}
            for name, value in strength.items()
        },
    }


def _estimate(values: Any) -> dict[str, float]:
    return asdict(bootstrap_mean(list(map(float, values))))


def write_run(folder: Path, records: list[dict[str, Any]], results: dict[str, Any]) -> Path:
    """A run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, allow_nan=False), encoding="utf-8")
    lines = "".join(json.dumps(record, ensure_ascii=True) + "\n" for record in records)
    (folder / "questions.jsonl").write_text(lines, encoding="utf-8")
    return folder
