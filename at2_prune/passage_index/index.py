"""Defines the passage index of one model. The index looks records up, and reads passages that have no records yet."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..encoders.embedder import Embedder
from ..files import check_folder, user_path
from ..models.fingerprint import fingerprint
from ..models.language_model import LanguageModel
from ..passages import Passage
from ..progress import progress
from .encoder import Encoder, LayerRows
from .layout import HEAD, Piece, piece_text, split_passage
from .records import DEFAULT_PRECISION, PieceRecord, Precision
from .stores import INDEX_FILE, NOT_COMPARED, DiskStore, Key, MemoryStore, Store, shared_memory

__all__ = ["PassageIndex", "check_index"]

logger = logging.getLogger(__name__)

FORMAT = 1
PASSAGES_AT_ONCE = 16
"""The number of passages that are read before their records are stored."""
MOST_STORED = 100_000
"""The number of passages of which an index remembers that its store on disk has them."""


class PassageIndex:
    """Gives the records of passages for one model. Threads may share an index.

    Records that come from a store on disk are kept in memory too.

    Args:
        language_model: the model that reads the passages.
        layers: the layers whose keys are kept.
        link_layers: the layers whose queries are kept too. They are a subset of `layers`. Their queries give the links
            between passages.
        precision: the precision of the kept vectors. Only `float32` gives exact scores.
        store: the store of the records. By default, it is the memory store that all indexes of the process share.
        embedder: an embedder. It is loaded here. Each record then holds the embedding of its piece too.

    Raises:
        InputError: the embedder cannot be loaded.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        layers: Sequence[int],
        link_layers: Sequence[int] = (),
        precision: Precision = DEFAULT_PRECISION,
        store: Store | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.language_model = language_model
        self.embedder = embedder
        self.encoder = Encoder(language_model, layers, link_layers, precision)
        self.identity: dict[str, Any] = {
            **_settings(self.encoder.layers, self.encoder.link_layers, precision),
            "model": fingerprint(language_model.model),
            "dtype": str(language_model.model.dtype).removeprefix("torch."),
        }
        if embedder is not None:
            embedder.load(language_model.device)
            self.identity["embedder"] = embedder.fingerprint
        self._name = hashlib.sha256(repr(sorted(self.identity.items())).encode()).hexdigest()[:16]
        self.identity[NOT_COMPARED] = language_model.name
        self.store: Store = shared_memory if store is None else store
        self._memory = store if isinstance(store, MemoryStore) else shared_memory
        self._stored: set[Key] = set()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        language_model: LanguageModel,
        layers: Sequence[int],
        link_layers: Sequence[int] = (),
        precision: Precision = DEFAULT_PRECISION,
        embedder: Embedder | None = None,
    ) -> PassageIndex:
        """Open the index in a folder. If the folder holds no index, make a new index there.

        Args:
            folder: the folder.
            language_model: see the class.
            layers: see the class.
            link_layers: see the class.
            precision: see the class.
            embedder: see the class.

        Raises:
            InputError: the index in the folder was made for another model or with other settings, or the embedder
                cannot be loaded.
            CacheError: the folder cannot be read or written.
        """
        index = cls(language_model, layers, link_layers, precision, embedder=embedder)
        index.store = DiskStore(folder, index.identity)
        return index

    def pieces(self, passage: Passage) -> list[Piece]:
        """Return the pieces of a passage. A passage without text has no pieces."""
        return split_passage(self.language_model.codec, passage) if passage.text.strip() else []

    def records(self, passages: Sequence[Passage]) -> Iterator[list[PieceRecord]]:
        """Yield a list of records for each passage, in the order of the passages. Each piece has one record.

        The model reads the passages that have no records in the store, some at a time. Their records are added to the
        store. A passage that occurs several times is read only once, as long as the store keeps its records.
        """
        for start in progress(range(0, len(passages), PASSAGES_AT_ONCE), "reading passages"):
            yield from self._some(passages[start : start + PASSAGES_AT_ONCE])

    def add(self, passages: Sequence[Passage], progress: Callable[[int], None] = lambda count: None) -> int:
        """Read the passages that have no records in the store. Return the number of passages that were read.

        Args:
            passages: the passages.
            progress: a function that is called with the number of passages that were done since the last call.
        """
        new = 0
        for start in range(0, len(passages), PASSAGES_AT_ONCE):
            some = passages[start : start + PASSAGES_AT_ONCE]
            missing = {self.key(p): p for p in some if p.text.strip() and self.store.get(self.key(p)) is None}
            self._read(missing)
            new += len(missing)
            progress(len(some))
        return new

    def unique(self, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages that have text, without duplicates. The order does not change."""
        return list({self.key(passage): passage for passage in passages if passage.text.strip()}.values())

    def question(self, text: str) -> dict[int, LayerRows]:
        """Return the rows of a question; see `Encoder.question`."""
        return self.encoder.question(text)

    def cosines(self, question: str, records: Sequence[PieceRecord]) -> torch.Tensor | None:
        """Return the cosine of each record's embedding and the question's embedding, `(records,)` float64.

        The result is None if the index has no embedder.
        """
        if self.embedder is None:
            return None
        kept = torch.stack([record.embedding for record in records if record.embedding is not None])
        return kept.double() @ self.embedder.question(question).double()

    def softcaps(self, question: Mapping[int, LayerRows]) -> dict[int, float | None]:
        """Return the soft-cap of the logits in each link layer, as `passage_index.features.link_features` takes it."""
        return {layer: question[layer].softcap for layer in self.encoder.link_layers}

    def key(self, passage: Passage) -> Key:
        """Return the key under which a passage's records are stored.

        The key depends on the identity of this index, and on the passage's title and text.
        """
        digest = hashlib.sha256(repr((passage.title or "", passage.text)).encode("utf-8", "surrogatepass"))
        return self._name, digest.hexdigest()

    def _some(self, passages: Sequence[Passage]) -> list[list[PieceRecord]]:
        known: dict[Key, list[PieceRecord] | None] = {}
        missing: dict[Key, Passage] = {}
        for passage in passages:
            key = self.key(passage)
            if key not in known:
                known[key] = self._get(key) if passage.text.strip() else []
                if known[key] is None:
                    missing[key] = passage
        self._store_from_memory({key: some for key, some in known.items() if some})
        known.update(self._read(missing))
        logger.info("read %d new passages of %d", len(missing), len(known))
        return [known[self.key(passage)] or [] for passage in passages]

    def _get(self, key: Key) -> list[PieceRecord] | None:
        records = self._memory.get(key)
        if records is None and self.store is not self._memory:
            records = self.store.get(key)
            if records is not None:
                self._memory.add({key: records})
                self._stored.add(key)
        return records

    def _store_from_memory(self, records: dict[Key, list[PieceRecord]]) -> None:
        """Add the records to the store on disk that only the memory has, because another index read the passages."""
        if self.store is self._memory:
            return
        if len(self._stored) > MOST_STORED:
            self._stored.clear()
        unsure = {key: some for key, some in records.items() if key not in self._stored}
        lacking = {key: some for key, some in unsure.items() if self.store.get(key) is None}
        if lacking:
            self.store.add(lacking)
        self._stored.update(unsure)

    def _read(self, passages: dict[Key, Passage]) -> dict[Key, list[PieceRecord]]:
        if not passages:
            return {}
        pieces = {key: self.pieces(passage) for key, passage in passages.items()}
        read = self.encoder.pieces([piece for some in pieces.values() for piece in some])
        if self.embedder is not None and read:
            texts = [piece_text(passages[key], piece) for key, some in pieces.items() for piece in some]
            vectors = self.embedder.passages(texts)
            read = [replace(record, embedding=vector.clone()) for record, vector in zip(read, vectors, strict=True)]
        following = iter(read)
        found = {key: [next(following) for _ in some] for key, some in pieces.items()}
        self.store.add(found)
        if self.store is not self._memory:
            self._stored.update(found)
        return found


def check_index(
    folder: str | os.PathLike[str],
    layers: Sequence[int],
    link_layers: Sequence[int],
    precision: Precision,
    model_name: str,
) -> None:
    """Check that a folder can hold an index with some settings. The model need not be loaded.

    Args:
        folder: the folder.
        layers: see `PassageIndex`.
        link_layers: see `PassageIndex`.
        precision: see `PassageIndex`.
        model_name: the model's name. If the check fails and the index has another model name, the error shows both
            names.

    Raises:
        InputError: the index in the folder was made with other settings, or the path is a file.
        CacheError: the folder cannot be read or written.
    """
    place = user_path(folder)
    if (place / INDEX_FILE).exists():
        store = DiskStore(place)
        store.check({**_settings(layers, link_layers, precision), NOT_COMPARED: model_name})
        store.close()
    else:
        check_folder(place)


def _settings(layers: Sequence[int], link_layers: Sequence[int], precision: Precision) -> dict[str, Any]:
    """Return the part of an index's identity that does not depend on the weights."""
    return {
        "format": FORMAT,
        "head": HEAD,
        "layers": sorted(layers),
        "link_layers": sorted(link_layers),
        "precision": precision,
    }
