"""Define AT2DocumentPruner, a Haystack component, which runs between a retriever and the answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from haystack import Document, component, default_from_dict, default_to_dict

from at2_prune.errors import InputError
from at2_prune.passages import Passage
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.items import as_items
from at2_prune.pipeline.pruners import options_of
from at2_prune.pipeline.results import Pruned
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.selection import K

if TYPE_CHECKING:
    from at2_prune import AT2Pruner

__all__ = ["AT2DocumentPruner"]


@component
class AT2DocumentPruner:
    """Keep the documents that the attention of the scoring model points to.

    `warm_up`, or the first call that needs scores, loads the scoring model, by default Gemma 3 270M. Kept documents are
    copies with the same id. `score` holds the probability that the document is evidence, and `meta["raw_score"]` holds
    the method's score. If the method gives no probabilities, `score` holds the method's score, and there is no
    `raw_score`. A single document is not scored and keeps its retrieval score, unless a setting such as `min_score`
    needs probabilities. Only some methods, for example `fusion`, read retrieval scores.

    Args:
        pruner: an `AT2Pruner` that is loaded already. The component takes the settings granularity, order and overflow
            from the pruner, unless they are given here or set in the environment. A component with a pruner cannot be
            serialised.
        settings: the fields of `at2_prune.PruneConfig`. Fields that are not given are read from the environment.

    Raises:
        InputError: a setting is unknown or has an invalid value.

    Example:
        >>> from haystack import Document
        >>> documents = [Document(content="Dinant lies on the Meuse."), Document(content="Ghent is a city.")]
        >>> AT2DocumentPruner(enabled=False).run("Which river?", documents)["documents"] == documents
        True
    """

    def __init__(self, *, pruner: AT2Pruner | None = None, **settings: Any) -> None:
        self.config = PruneConfig.load({} if pruner is None else options_of(pruner), **settings)
        self.step = PruneStep(self.config, pruner)
        self._given = pruner

    @classmethod
    def from_config(
        cls, config: PruneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None, **options: Any
    ) -> AT2DocumentPruner:
        """Make a component with the settings of `config`.

        Args:
            config: a `PruneConfig`, a mapping of settings, or the name of a file, as in `PruneConfig.load`. The
                environment overrides a mapping and a file. With None, only the environment is read.
            options: arguments of this class. An option that is a setting overrides `config`.
        """
        return cls(**{**PruneConfig.load(config).to_dict(), **options})

    def warm_up(self) -> None:
        """Load the scoring model. If the setting `enabled` is False, nothing is loaded."""
        if self.config.enabled:
            _ = self.step.pruner

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None, draft: str | None = None
    ) -> dict[str, Any]:
        """Return the documents to keep.

        Args:
            query: the question.
            documents: the retrieved documents, best first.
            top_k: the number of documents (or sentences) to keep in this call. With None, the component's setting
                decides: `keep` or `max_tokens` if one of the two is set, else `top_n`.
            draft: an answer that your own generator wrote from these documents, for methods that read a draft. With
                None, the reader writes a draft for such methods.

        Returns:
            `documents`: the kept documents.

        Raises:
            InputError: `documents` is not a list of `Document` objects. The message names the index of a wrong item.
        """
        if not self.config.enabled:
            return {"documents": documents}
        documents = _as_documents(documents)
        return {"documents": self._kept(documents, self.prune(query, documents, top_k, draft))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None, draft: str | None = None
    ) -> dict[str, Any]:
        """Do the same as `run`, but run the scoring model in a thread."""
        return await asyncio.to_thread(self.run, query, documents, top_k, draft)

    def prune(
        self, query: str, documents: Sequence[Document], top_k: K | None = None, draft: str | None = None
    ) -> Pruned:
        """Return the kept and the dropped documents, with the reasons for dropping.

        `print(pruner.prune(query, documents).explain())` shows this result. See `run` for the arguments.
        """
        return self.step.run(query, [self._read(document) for document in _as_documents(documents)], draft, top_k)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings in the form in which Haystack stores them in a pipeline.

        Raises:
            InputError: the component holds a pruner that is loaded already.
        """
        if self._given is not None:
            raise InputError(
                "AT2DocumentPruner(pruner=...) cannot be serialised, because a loaded model cannot be written to a "
                "file; name the model with model= and coefficients= instead"
            )
        return default_to_dict(self, **self.config.to_dict())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AT2DocumentPruner:
        """Make a component from the result of `to_dict`."""
        made: AT2DocumentPruner = default_from_dict(cls, data)
        return made

    def _read(self, document: Document) -> Passage:
        title = (document.meta or {}).get(self.config.title_key) if self.config.title_key else None
        return Passage(
            document.content or "",
            title=title if isinstance(title, str) and title else None,
            score=float(document.score) if isinstance(document.score, Real) else None,
        )

    def _kept(self, documents: Sequence[Document], pruned: Pruned) -> list[Document]:
        """Return copies of the documents that `pruned` keeps, with their scores."""
        kept = []
        for item in pruned.kept:
            document = documents[item.index]
            whole = item.text == pruned.passages[item.index].text
            content = document.content if whole else item.text
            score = document.score if item.relevance is None else item.relevance
            meta = dict(document.meta or {})
            if item.probability is not None:
                meta["raw_score"] = item.score
            kept.append(replace(document, content=content, score=score, meta=meta))
        return kept


def _as_documents(documents: Any) -> list[Document]:
    return as_items(documents, Document, "document", "wrap a text as Document(content=text)")
