"""Wraps a causal language model with its tokenizer and prompt template, to write answers and to read attention."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from ..attention.reader import AttentionReader, EnoughRead, read_attention
from ..attention.rows import Reading, Span
from ..errors import ContextTooLongError, ModelNotSupportedError
from ..passages import Granularity, Passage
from ..progress import progress
from .compatibility import Compatibility, check_causal, context_length
from .default_model import EMBEDDED_MODEL_ID, embedded_model_path
from .generation import (
    AnswerParser,
    Generation,
    GreedyLogProbabilities,
    OwnSettings,
    StopAtAnswersEnd,
    greedy_log_probabilities,
)
from .kv_cache import Prefix, cache_options, new_cache
from .loading import choose_device, choose_dtype, load_weights
from .prompts import EncodedPrompt, PromptTemplate, TextCodec, default_template, encode_prompt
from .templates import reasoning_template

__all__ = ["Generation", "LanguageModel", "greedy_log_probabilities", "recorded_name"]

TOKENS_AT_ONCE = 2048
"""The maximum number of tokens per pass when a single long prompt is read. So an attention mask has at most this number
of rows, and its memory grows linearly with the prompt's length. Models whose caches cannot be joined read the whole
prompt in one pass."""


class LanguageModel:
    """A causal language model, its tokenizer and its prompt template.

    Args:
        model: a decoder-only model. It is put into evaluation mode.
        tokenizer: the model's tokenizer, which must be a fast one.
        template: the template that shows questions and passages. By default, it is the tokenizer's chat template. If
            the tokenizer has no chat template, the default is a few-shot text prompt.
        name: the model's name. It is recorded with coefficients and results.

    Raises:
        ModelNotSupportedError: the model is not a causal language model, or its tokenizer or chat template cannot be
            used.

    Example:
        >>> language_model = LanguageModel.load()  # doctest: +SKIP
        >>> language_model.name, language_model.model.config.num_hidden_layers  # doctest: +SKIP
        ('gemma-3-270m', 18)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate | None = None,
        name: str | None = None,
    ) -> None:
        check_causal(model.config)
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
            name: the Hub id or the path. `None` loads the embedded Gemma 3 270M. It needs the extra `embedded`, and the
                Gemma Terms of Use apply.
            device: the device of the weights. By default, it is CUDA if available, else Apple's MPS if available, else
                the CPU.
            dtype: the precision of the weights. By default, it is float32 on the CPU and bfloat16 on other devices.
            template: see the class.
            model_options: options for `AutoModelForCausalLM.from_pretrained`. `trust_remote_code` is False by default.

        Raises:
            InputError: there is no such model, it cannot be read, the device or the dtype cannot be used, or the model
                needs `trust_remote_code=True`.
            ModelNotSupportedError: see the class.
            MissingExtraError: the embedded model is not installed, or the model is a PEFT adapter and peft is not
                installed.
            CacheError: the embedded model cannot be written to the cache.
        """
        target = choose_device(device)
        precision = choose_dtype(dtype, target)
        recorded = recorded_name(name)
        embedded = recorded == EMBEDDED_MODEL_ID
        path = str(embedded_model_path()) if embedded else recorded
        model, tokenizer = load_weights(path, embedded, precision, model_options)
        if "device_map" not in model_options:
            model.to(target)  # type: ignore[arg-type]
        try:
            return cls(model, tokenizer, template, name=recorded)
        except ModelNotSupportedError as error:
            raise ModelNotSupportedError(f"cannot load model {recorded!r}: {error}") from error

    def reasoning(self, own: bool = False) -> LanguageModel:
        """Return the same model with a template that asks it to reason before it answers.

        Args:
            own: True for a reasoning model. The tokenizer's chat template is then used with `enable_thinking=True`.
                `LanguageModel.load` uses it with `enable_thinking=False`. With `own=False`, the prompt asks for the
                facts, and then for the answer.

        Raises:
            ModelNotSupportedError: with `own=True`, the tokenizer has no chat template. With `own=False`, the current
                template is not a `ChatTemplate`.
        """
        if own and not self.tokenizer.chat_template:
            raise ModelNotSupportedError(
                f"the tokenizer of {self.name} has no chat template that could switch thinking on: use a reasoning "
                "model with a chat template"
            )
        template = default_template(self.tokenizer, True) if own else reasoning_template(self.template)
        return LanguageModel(self.model, self.tokenizer, template, self.name)

    @property
    def device(self) -> torch.device:
        """The device that the model's weights are on."""
        return self.model.device

    @property
    def context_length(self) -> int | None:
        """The maximum number of tokens in prompt and answer together. It is None if the config does not give it."""
        return context_length(self.model.config)

    @property
    def batching_pays(self) -> bool:
        """Return whether one pass over a padded batch takes less time than one pass for each sequence.

        The result is True on a GPU, because a pass over few tokens takes about as long as a pass over many tokens
        there. It is False on a CPU.
        """
        return self.device.type != "cpu"

    def encode(self, question: str, passages: Sequence[Passage], granularity: Granularity = "passage") -> EncodedPrompt:
        """Return the prompt for a question; see `at2_prune.models.prompts.encode_prompt`.

        Args:
            question: the question.
            passages: the passages to show, in this order.
            granularity: the kind of source: a passage, a sentence of a passage, or a token of a passage.

        Raises:
            ModelNotSupportedError: the tokenizer belongs to another model.
        """
        prompt = encode_prompt(self.codec, self.template, question, passages, granularity)
        self._check_ids(prompt.ids)
        return prompt

    def encode_draft(self, text: str) -> list[int]:
        """Return the token ids of a given draft, as this model would have written the draft after the prompt."""
        return self.encode_answer(text)[0]

    def encode_answer(self, text: str) -> tuple[list[int], list[Span]]:
        """Return the token ids of a given answer, as `encode_draft` does, and each token's character span in `text`."""
        if not isinstance(text, str) or not text.strip():
            return [], []
        prefix = self.template.answer_prefix
        ids, offsets = self.codec.plain(prefix + text.strip())
        pairs = list(zip(ids, offsets, strict=True))
        pairs = [(i, span) for i, span in pairs if span[1] > span[0]] or pairs
        ids = [i for i, _ in pairs]
        self._check_ids(ids)
        shift = len(text) - len(text.lstrip()) - len(prefix)
        return ids, [(max(0, start + shift), max(0, stop + shift)) for _, (start, stop) in pairs]

    def _check_ids(self, ids: Sequence[int]) -> None:
        """Raise `ModelNotSupportedError` if the model lacks the embedding of a token."""
        size = self._vocabulary
        if ids and size is not None and max(ids) >= size:
            raise ModelNotSupportedError(
                f"the tokenizer makes token {max(ids)} ({self.codec.decode([max(ids)], special=True)!r}), but "
                f"{self.name} has embeddings for {size} tokens only: the tokenizer belongs to another model"
            )

    @property
    def _vocabulary(self) -> int | None:
        """The number of tokens that have an embedding in the model. It is None if the kind of embedding is unknown."""
        return getattr(self.model.get_input_embeddings(), "num_embeddings", None)

    def check_length(self, prompt_tokens: int, more: int) -> None:
        """Raise `ContextTooLongError` if the prompt and `more` further tokens do not fit into the model's context."""
        limit = self.context_length
        if limit is not None and prompt_tokens + more > limit:
            raise ContextTooLongError(
                f"question and passages take {prompt_tokens} tokens and the answer may take {more}, but {self.name} "
                f"has a context of {limit} tokens: give fewer or shorter passages, or use a model with a longer context"
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
        """Continue prompts by greedy decoding, as one batch. With `readings`, attention is read in the same passes.

        Args:
            prompts: one prompt or more. Shorter prompts are padded on the left.
            max_new_tokens: the maximum number of tokens in an answer.
            readings: for each prompt, the sources and rows to read. `Rows` with `stop=None` include the rows of the
                answer.
            layers: the indices of the layers to read. `None` reads all layers.
            prefix: the prefix of the prompt, if the prefix was run before. Then only the rest of the prompt is run. The
                prefix is used only if there is a single prompt.

        Returns:
            One generation for each prompt, and the attention reader. Without `readings`, the reader is None.
        """
        longest = max(len(prompt) for prompt in prompts)
        self.check_length(longest, max_new_tokens)
        start = prefix.fork_for(prompts[0]) if prefix and len(prompts) == 1 else None
        ids, mask, padding = self._padded([prompt.ids for prompt in prompts])
        probabilities = GreedyLogProbabilities()
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            **(cache_options(start.cache) if start else {}),
            "generation_config": self._greedy(max_new_tokens, own_cache=start is not None),
            "stopping_criteria": StoppingCriteriaList(
                [StopAtAnswersEnd(self._parser, longest)] if self.template.stop else []
            ),
            "logits_processor": LogitsProcessorList([probabilities]),
        }
        if readings is None:
            output = self.model.generate(**inputs)
            reader = None
        else:
            past = len(start.ids) if start else 0
            shifted, given = _shifted(readings, padding), longest - past
            with read_attention(self.model, shifted, layers, past, given=given) as reader:
                output = self.model.generate(**inputs)
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
    ) -> AttentionReader:
        """Read attention in one teacher-forced pass over prompts and targets. No answer is written.

        A single long prompt runs in pieces of `TOKENS_AT_ONCE` tokens, if the model's caches can be joined. Each piece
        attends to the keys of the earlier pieces. One pass over the whole prompt would need masks of tokens x tokens.

        Args:
            prompts: one prompt or more, run as one batch. Shorter prompts are padded on the left.
            targets: for each prompt, the tokens that follow it. There may be no tokens.
            readings: for each prompt, the sources and rows to read.
            layers: the indices of the layers to read. A pass ends after the last of these layers. `None` reads all
                layers.
        """
        # The row of the last target token predicts no token of the target, so the last target token is not run.
        ids, mask, padding = self._padded(
            [[*prompt.ids, *target[:-1]] for prompt, target in zip(prompts, targets, strict=True)]
        )
        shifted, width = _shifted(readings, padding), ids.shape[1]
        in_pieces = len(prompts) == 1 and width > TOKENS_AT_ONCE and self.compatibility.joins_caches
        cache = new_cache(self.model) if in_pieces else None
        options: dict[str, Any] = {"logits_to_keep": 1} if self.compatibility.keeps_logits else {}
        if cache is not None:
            options |= {**cache_options(cache, self.model), "use_cache": True}
        else:
            options["use_cache"] = False
            if any(padding) and self.compatibility.takes_positions:
                options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        step = TOKENS_AT_ONCE if in_pieces else width
        with read_attention(self.model, shifted, layers, stop=True, given=width) as reader:
            for first in progress(range(0, width, step), "reading"):
                last = min(first + step, width)
                seen = {"attention_mask": mask[:, :last]} if cache is not None or any(padding) else {}
                with suppress(EnoughRead):  # the last layer of this piece was read
                    self.model(input_ids=ids[:, first:last], **seen, **options)
        return reader

    def ends(self, ids: Sequence[int]) -> bool:
        """Return whether an answer has ended, by its last token or by a stop string of the template."""
        return ids[-1] in self._end_ids() or self._parser.has_stopped(list(ids))

    def generation(self, ids: list[int], log_probabilities: Sequence[float] = ()) -> Generation:
        """Find the answer in the tokens that the model wrote after a prompt.

        Args:
            ids: the tokens, including the tokens that ended the text.
            log_probabilities: one log-probability for each token. If there are none, the answer's log-probability is
                minus infinity.

        Raises:
            ModelNotSupportedError: a log-probability is not a number.
        """
        if any(map(math.isnan, log_probabilities)):
            raise self.not_finite()
        closing = {self._pad_id(), *self._end_ids()}
        while ids and ids[-1] in closing:
            ids = ids[:-1]
        return self._parser.parse(ids, log_probabilities)

    def not_finite(self) -> ModelNotSupportedError:
        """Return the error to raise if this model computes numbers that are not finite."""
        return ModelNotSupportedError(
            f"{self.name} computes numbers that are not finite: they overflow in "
            f"{str(self.model.dtype).removeprefix('torch.')}, or the weights are damaged; load the model in "
            "bfloat16 or float32, or get a new copy of it"
        )

    @property
    def _parser(self) -> AnswerParser:
        return AnswerParser(self.codec, self.template)

    def _greedy(self, max_new_tokens: int, own_cache: bool) -> GenerationConfig:
        """Return the options of greedy decoding. These options override the model's generation_config.json."""
        return OwnSettings(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            num_return_sequences=1,
            repetition_penalty=1.0,
            return_dict_in_generate=False,
            use_cache=True,
            cache_implementation=None if own_cache else "dynamic",
            eos_token_id=sorted(self._end_ids()) or None,
            pad_token_id=self._pad_id(),
        )

    def _padded(self, sequences: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Return the token ids and the mask of a padded batch, and the number of padding tokens of each sequence.

        Token ids and mask have the shape `(sequences, tokens)`.
        """
        longest = max(map(len, sequences))
        padding = [longest - len(ids) for ids in sequences]
        rows = [[self._pad_id()] * n + ids for n, ids in zip(padding, sequences, strict=True)]
        mask = [[0] * n + [1] * (longest - n) for n in padding]
        return torch.tensor(rows, device=self.device), torch.tensor(mask, device=self.device), padding

    def _end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return {end for end in (ends if isinstance(ends, list) else [ends]) if end is not None}

    def _pad_id(self) -> int:
        size = self._vocabulary
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None and (size is None or candidate < size):
                return candidate
        return 0


def recorded_name(model: str | os.PathLike[str] | None) -> str:
    """Return the name that `LanguageModel.load` gives to a model. The argument is the Hub id, the path or None."""
    return EMBEDDED_MODEL_ID if model is None else os.path.expanduser(str(model))


def _shifted(readings: Sequence[Reading], padding: Sequence[int]) -> list[Reading]:
    return [Reading(r.sources, r.rows, n) for r, n in zip(readings, padding, strict=True)]
