"""A causal language model with its tokenizer and prompt: loading it, and letting it write."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from ..attention.reader import AttentionReader, read_attention
from ..attention.rows import Reading
from ..errors import ContextTooLongError, InputError
from ..passages import Granularity, Passage
from .compatibility import THOUGHTS, Compatibility, context_length
from .default_model import EMBEDDED_MODEL_ID, embedded_model_path, embedded_tokenizer
from .kv_cache import Prefix
from .prompts import EncodedPrompt, PromptTemplate, TextCodec, default_template, encode_prompt

__all__ = ["Generation", "LanguageModel", "greedy_log_probabilities"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generation:
    """What a model wrote."""

    ids: list[int]
    """Every token it wrote, thoughts included, without what ended it."""
    answer: tuple[int, int]
    """The part of `ids` that is the final answer: no thoughts, no surrounding white space, nothing after a stop."""
    text: str
    """The final answer; empty if there is none."""
    log_probability: float = -math.inf
    """Of the final answer and of ending it there: how confident the model is. Minus infinity without an answer."""

    @property
    def answer_ids(self) -> list[int]:
        return self.ids[slice(*self.answer)]


class LanguageModel:
    """A causal language model, its tokenizer and the prompt it is given.

    Args:
        model: a decoder-only model in evaluation mode.
        tokenizer: its fast tokenizer.
        template: how questions and passages are shown; by default the tokenizer's chat template, or a few-shot text
            prompt for a model without one.
        name: recorded with coefficients and results.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate | None = None,
        name: str | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.codec = TextCodec(tokenizer)
        self.template: PromptTemplate = template or default_template(tokenizer)
        self.name = name or model.config.name_or_path or type(model).__name__
        self.compatibility = Compatibility(model)

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        template: PromptTemplate | None = None,
        **model_options: Any,
    ) -> LanguageModel:
        """Load a model by Hub id or path.

        Args:
            name: None for the embedded Gemma 3 270M (extra `embedded`; Gemma terms of use apply).
            device: by default CUDA, then Apple's MPS, then the CPU.
            dtype: by default bfloat16 on a GPU and float32 on the CPU.
            template: see the class.
            model_options: passed to `AutoModelForCausalLM.from_pretrained`.

        Raises:
            InputError: no such model, or an unknown device or dtype.
            MissingExtraError: the embedded model is not installed.
        """
        embedded = name is None or str(name) == EMBEDDED_MODEL_ID
        path = str(embedded_model_path() if embedded else name)
        target = _device(device)
        kind = _dtype(dtype, target)
        hub_options = {key: value for key, value in model_options.items() if key in _HUB_OPTIONS}
        try:
            AutoConfig.from_pretrained(path, **hub_options)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot load model {path!r}: it is neither a folder with a model nor a model the Hub gives us "
                f"({_first_line(error)})"
            ) from error
        try:
            loading: Any = AutoModelForCausalLM.from_pretrained(
                path, dtype=kind, output_loading_info=True, **model_options
            )
            model, loaded = loading
            tokenizer = embedded_tokenizer(path) if embedded else AutoTokenizer.from_pretrained(path, **hub_options)
        except Exception as error:  # transformers, safetensors, tokenizers and pickle raise many kinds
            raise InputError(
                f"cannot load model {path!r}: its weights or its tokenizer cannot be read ({_first_line(error)})"
            ) from error
        if loaded["missing_keys"]:
            missing = sorted(loaded["missing_keys"])
            raise InputError(f"cannot load model {path!r}: its weights lack {len(missing)} tensors ({missing[0]}, ...)")
        if "device_map" not in model_options:
            model = model.to(target)
        return cls(model, tokenizer, template, name=EMBEDDED_MODEL_ID if embedded else path)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def context_length(self) -> int | None:
        """The tokens that the model can take, prompt and answer together; None if its config does not say."""
        return context_length(self.model.config)

    @property
    def batching_pays(self) -> bool:
        """Whether a pass over few tokens takes about as long as over many, so that batches pay, padding and all.

        That is so on a GPU.
        """
        return self.device.type != "cpu"

    def encode(self, question: str, passages: Sequence[Passage], granularity: Granularity = "passage") -> EncodedPrompt:
        """The prompt for a question; see `at2_prune.models.prompts.encode_prompt`."""
        return encode_prompt(self.codec, self.template, question, passages, granularity)

    def encode_draft(self, text: str) -> list[int]:
        """Ids of a draft written elsewhere, as this model would have written it after the prompt."""
        if not isinstance(text, str) or not text.strip():
            return []
        ids, offsets = self.codec.plain(self.template.answer_prefix + text.strip())
        return [i for i, (start, stop) in zip(ids, offsets, strict=True) if stop > start] or ids

    def check_length(self, prompt_tokens: int, more: int) -> None:
        """Raise `ContextTooLongError` if the prompt and `more` tokens do not fit."""
        limit = self.context_length
        if limit is not None and prompt_tokens + more > limit:
            raise ContextTooLongError(
                f"question and passages take {prompt_tokens} tokens and the answer up to {more}, but {self.name} takes "
                f"{limit} in all: give fewer or shorter passages, a model with a longer context, or overflow='windows'"
            )

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        max_new_tokens: int = 48,
        readings: Sequence[Reading] | None = None,
        layers: Collection[int] | None = None,
        prefix: Prefix | None = None,
    ) -> tuple[list[Generation], AttentionReader | None]:
        """Continue prompts greedily, as one batch, reading attention on the way if asked to.

        Args:
            prompts: one or more; shorter ones are padded on the left.
            max_new_tokens: an answer is cut there.
            readings: what to read of each prompt; row groups with `stop=None` go on into the answer's rows.
            layers: which layers to read; None reads all.
            prefix: how a single prompt begins, so that only the rest of it is run.

        Returns:
            One generation a prompt, and the reader (None without `readings`).
        """
        longest = max(len(prompt) for prompt in prompts)
        self.check_length(longest, max_new_tokens)
        start = prefix.fork_for(prompts[0]) if prefix and len(prompts) == 1 else None
        ids, mask, padding = self._padded([prompt.ids for prompt in prompts])
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,  # this and what follows would otherwise come from the model's generation_config.json
            num_beams=1,
            num_return_sequences=1,
            repetition_penalty=1.0,
            return_dict_in_generate=False,
            use_cache=True,
            cache_implementation=None if start else "dynamic",
            eos_token_id=sorted(self._end_ids()) or None,
            pad_token_id=self._pad_id(),
        )
        stopping = StoppingCriteriaList([_StopAt(self, longest)] if self.template.stop else [])
        inputs = {"input_ids": ids, "attention_mask": mask}
        if start:
            inputs["past_key_values"] = start.cache
        past = len(start.ids) if start else 0
        probabilities = _GreedyLogProbabilities()
        options = {"stopping_criteria": stopping, "logits_processor": LogitsProcessorList([probabilities])}
        if readings is None:
            output = self.model.generate(**inputs, generation_config=config, **options)
            reader = None
        else:
            with read_attention(self.model, _shifted(readings, padding), layers, past) as reader:
                output = self.model.generate(**inputs, generation_config=config, **options)
        log_p = torch.stack(probabilities.steps, dim=1).tolist()
        written = output[:, longest:].tolist()
        return [self.generation(ids, log_p[item]) for item, ids in enumerate(written)], reader

    @torch.inference_mode()
    def read(
        self,
        prompts: Sequence[EncodedPrompt],
        targets: Sequence[Sequence[int]],
        readings: Sequence[Reading],
        layers: Collection[int] | None = None,
        prefix: Prefix | None = None,
    ) -> AttentionReader:
        """One forward pass over prompts and targets, teacher-forced, reading attention; no answer is written.

        Args:
            prompts: one or more, run as one batch; shorter ones are padded on the left.
            targets: tokens that follow each; may be empty.
            readings: what to read of each.
            layers: which layers to read, None for all; the pass ends with the last of them.
            prefix: how a single prompt begins, so that only the rest of it is run.
        """
        start = prefix.fork_for(prompts[0]) if prefix and len(prompts) == 1 else None
        past = len(start.ids) if start else 0
        # the last token's row predicts no target
        ids, mask, padding = self._padded(
            [[*prompt.ids, *target[:-1]] for prompt, target in zip(prompts, targets, strict=True)]
        )
        inputs: dict[str, Any] = {"input_ids": ids[:, past:], "use_cache": False}
        if start:
            inputs |= {"past_key_values": start.cache, "use_cache": True, "attention_mask": mask}
        elif any(padding):
            inputs["attention_mask"] = mask
            if self.compatibility.takes_positions:
                inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        options: dict[str, Any] = {"logits_to_keep": 1} if self.compatibility.keeps_logits else {}
        with read_attention(self.model, _shifted(readings, padding), layers, past, stop=True) as reader:
            self.model(**inputs, **options)
        return reader

    def ends(self, ids: Sequence[int]) -> bool:
        """Whether the model ended its answer with the last of these tokens, or the template's stop cuts it."""
        if ids[-1] in self._end_ids():
            return True
        return _cut(self._text(list(ids)[self._after_thoughts(list(ids)) :]), self.template.stop)

    def generation(self, ids: list[int], log_probabilities: Sequence[float] = ()) -> Generation:
        """What the tokens that the model wrote after a prompt say.

        Args:
            ids: the tokens, what ended the answer among them.
            log_probabilities: one a token; without them the answer's log-probability is not known.
        """
        closing = {self._pad_id(), *self._end_ids()}
        while ids and ids[-1] in closing:
            ids = ids[:-1]
        start, stop = self._after_thoughts(ids), len(ids)
        while start < stop and not self.codec.decode(ids[start : start + 1]).strip():
            start += 1
        if self.template.stop:
            before = _before(self._text(ids[start:stop]), self.template.stop)
            stop = next(i for i in range(start, stop + 1) if self._text(ids[start:i]).startswith(before))
        while stop > start and not self.codec.decode(ids[stop - 1 : stop]).strip():
            stop -= 1
        text = _before(self._text(ids[start:stop]), self.template.stop)
        known = log_probabilities if stop > start else ()
        total = math.fsum(known[start : stop + 1]) if known else -math.inf  # with the token that ends it
        return Generation(ids, (start, stop), text.strip(), total)

    def _padded(self, sequences: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Token ids and attention mask of a batch, `(sequences, tokens)`, and the padding to the left of each."""
        longest = max(map(len, sequences))
        padding = [longest - len(ids) for ids in sequences]
        rows = [[self._pad_id()] * n + ids for n, ids in zip(padding, sequences, strict=True)]
        mask = [[0] * n + [1] * (longest - n) for n in padding]
        return torch.tensor(rows, device=self.device), torch.tensor(mask, device=self.device), padding

    def _after_thoughts(self, ids: list[int]) -> int:
        """Where the final answer starts: 0 without thoughts, past the end if they never closed."""
        text = self.codec.decode(ids, special=True)
        prompted = getattr(self.template, "tail", "")
        for opening, closing in THOUGHTS:
            if closing in text:
                return next(i for i in range(1, len(ids) + 1) if closing in self.codec.decode(ids[:i], special=True))
            if opening in text or (opening in prompted and closing not in prompted):
                return len(ids)
        return 0

    def _text(self, ids: list[int]) -> str:
        return self.codec.decode(ids).lstrip()

    def _end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return {end for end in (ends if isinstance(ends, list) else [ends]) if end is not None}

    def _pad_id(self) -> int:
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return candidate
        return 0


class _StopAt(StoppingCriteria):
    """Ends a sequence once its answer holds one of the template's stop strings."""

    def __init__(self, language_model: LanguageModel, prompt_tokens: int) -> None:
        self._model = language_model
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:  # type: ignore[override]
        stop = self._model.template.stop
        rows = input_ids[:, self._prompt_tokens :].tolist()
        done = [_cut(self._model._text(ids[self._model._after_thoughts(ids) :]), stop) for ids in rows]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)


class _GreedyLogProbabilities(LogitsProcessor):
    """Remembers the log-probability of every token that greedy decoding takes."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        self.steps.append(greedy_log_probabilities(scores))
        return scores


def greedy_log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """The log-probability of the likeliest token of each row, float32.

    Args:
        logits: `(rows, vocabulary)`.

    Example:
        >>> greedy_log_probabilities(torch.tensor([[0.0, 0.0], [50.0, 0.0]]))
        tensor([-0.6931,  0.0000])
    """
    logits = logits.float()
    return logits.amax(-1) - logits.logsumexp(-1)


def _shifted(readings: Sequence[Reading], padding: Sequence[int]) -> list[Reading]:
    return [Reading(r.sources, r.rows, n) for r, n in zip(readings, padding, strict=True)]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]


_HUB_OPTIONS = {"revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder"}


def _cut(text: str, stops: Sequence[str]) -> bool:
    return any(stop in text for stop in stops)


def _before(text: str, stops: Sequence[str]) -> str:
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))].rstrip()


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from None


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InputError(f"dtype {dtype!r} is unknown; use float32, bfloat16 or float16")
    return kind
