"""Compare scores with the code and the estimators that AT2's authors published.

    $ python research/published_parity.py                # the reference code, if the package at2 is installed
    $ python research/published_parity.py --hub          # a published estimator, if the Hub can be reached

Without --hub: a tiny random Llama answers, an estimator with random weights is saved by the reference code, and both
sides score whole answers and single statements with it. The package at2 runs beside this project and is no part of it:
install it with `pip install at2` into an environment of its own that also holds at2-prune.

With --hub: the estimator is read from the Hub, and its scores on a random model of its shape are compared with sums
over the model's own eager attention. The exit code is 77 if what is needed is missing, and 1 if scores differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BatchEncoding,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
)

from at2_prune.attention.rows import DRAFT_ROWS, Span
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.models.statements import read_parts

MISSING = 77
ESTIMATOR, MODEL = "madrylab/at2-phi-4-mini-instruct", "microsoft/Phi-4-mini-instruct"
SOURCES: list[Span] = [(3, 9), (9, 10), (14, 30), (30, 41)]
PARTS: list[Span] = [(0, 4), (4, 5), (5, 12), (0, 12)]
PROMPT, ANSWER, VOCABULARY = 44, 12, 97


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hub", action="store_true", help="check a published estimator instead")
    return published() if parser.parse_args().hub else reference()


class Bare:
    """A language model without a tokenizer, with the attributes that `read_parts` uses."""

    def __init__(self, model: Any) -> None:
        self.model = model

    check_length = staticmethod(lambda prompt, more: None)
    read = LanguageModel.read
    _padded = LanguageModel._padded
    _pad_id = staticmethod(lambda: 0)
    device = torch.device("cpu")

    class compatibility:
        joins_caches = keeps_logits = takes_positions = True


def ours(model: Any, ids: list[int], coefficients: HeadCoefficients) -> list[torch.Tensor]:
    """Return the scores of all sources for each part of the answer, by at2-prune."""
    prompt = EncodedPrompt(ids[:PROMPT], SOURCES, [0] * len(SOURCES), [""] * len(SOURCES), [(3, 41)], (41, 42))
    readouts = read_parts(Bare(model), prompt, ids[PROMPT:], PARTS, [DRAFT_ROWS])  # type: ignore[arg-type]
    return [coefficients.score(one.mass, one.layers) for one in readouts]


def differ(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], what: str) -> int:
    """Print the largest difference, relative to the largest score, and return 1 if it is above 1e-4."""
    gap = max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))
    gap /= max(float(b.abs().max()) for b in second)
    print(f"{what}: {len(first)} parts x {len(SOURCES)} sources, largest relative difference {gap:.1e}")
    return int(gap > 1e-4)


def reference() -> int:
    """Compare with the reference code on a tiny random model."""
    try:
        from at2 import AT2Attributor, AT2ScoreEstimator
        from at2.attribution.features import AttentionFeatureExtractor
        from at2.tasks import AttributionTask
    except ImportError as error:
        print(f"the reference code cannot be imported ({error}): pip install at2", file=sys.stderr)
        return MISSING
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    model.name_or_path = "tiny-llama"  # the reference code takes the family from the name
    ids = torch.randint(3, VOCABULARY, (PROMPT + ANSWER,)).tolist()

    class Given(AttributionTask):  # type: ignore[misc, valid-type]
        """States the tokens, sources and target of the comparison for the reference code."""

        input_text = ""
        target_token_range = (PROMPT, PROMPT + ANSWER)

        def _get_source_token_ranges(self) -> list[Span]:
            return SOURCES

        def get_tokens(self, return_tensors: str | None = None) -> BatchEncoding:
            data = {"input_ids": ids, "attention_mask": [1] * len(ids)}
            if return_tensors:
                data = {name: [value] for name, value in data.items()}  # type: ignore[misc]
            return BatchEncoding(data, tensor_type=return_tensors)

    task = Given(model, None, cache={"text": "given"})
    estimator = AT2ScoreEstimator(AttentionFeatureExtractor(3, 4, "llama"))
    estimator.linear.weight.data.normal_()
    estimator.finalize_parameters()
    attributor = AT2Attributor(task, estimator)
    theirs = [torch.tensor(attributor.get_attribution_scores(token_start=a, token_end=b)) for a, b in PARTS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "score_estimator.pt"
        estimator.save(path)
        coefficients = HeadCoefficients.from_at2_estimator(path, config)
    return differ(ours(model, ids, coefficients), theirs, "the reference code and at2-prune")


def published() -> int:
    """Compare a published estimator's scores with sums over eager attention, on a random model of its shape."""
    try:
        coefficients = HeadCoefficients.from_at2_estimator(ESTIMATOR, config := AutoConfig.from_pretrained(MODEL))
    except Exception as error:  # without a network, errors of many types
        reason = " ".join(str(error).split())
        print(f"the Hub cannot be reached, or it lacks {ESTIMATOR}: {reason}"[:300], file=sys.stderr)
        return MISSING
    norm = float(coefficients.weight.abs().sum())
    print(f"{ESTIMATOR}: {tuple(coefficients.weight.shape)}, L1 norm {norm:.4f}")
    model = AutoModelForCausalLM.from_config(_small(config)).eval()
    ids = torch.randint(3, VOCABULARY, (PROMPT + ANSWER,)).tolist()
    found = ours(model, ids, coefficients)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        every = model(torch.tensor([ids]), output_attentions=True).attentions
    weights = torch.einsum("lh,lhrk->rk", coefficients.weight[0], torch.stack([one[0].float() for one in every]))
    rows = [weights[PROMPT - 1 + a : PROMPT - 1 + b].mean(0) for a, b in PARTS]
    expected = [torch.stack([row[start:stop].sum() for start, stop in SOURCES]) for row in rows]
    return differ(found, expected, "the published estimator, ours and eager attention")


def _small(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return a config with as many layers and heads, but narrow."""
    heads: int = config.num_attention_heads
    config.update({"hidden_size": 8 * heads, "intermediate_size": 16, "vocab_size": VOCABULARY, "pad_token_id": 0})
    config.update({"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})
    config.update({"partial_rotary_factor": 1.0, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2})
    return config


if __name__ == "__main__":
    sys.exit(main())
