"""The limits of a server: what one request may hold, how many may wait, and how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .problems import Problem

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The limits of a server."""

    waiting: int = 128
    """Requests that may wait. A further one is answered with 429."""
    together: int = 8
    """Waiting requests that are scored as one batch."""
    documents: int = 1000
    """Documents of one request."""
    characters: int = 2_000_000
    """Characters of one request: its question, its documents and its draft."""
    body_bytes: int = 16 * 1024 * 1024
    """Bytes of one request."""
    seconds: float = 60.0
    """Time for receiving a request, and then for answering it."""

    def check(self, field: str, texts: Iterable[str], *others: tuple[str, str]) -> None:
        """Check the size of a request.

        Args:
            field: the name of the field that holds the documents.
            texts: the documents.
            others: names and values of the other fields with text.

        Raises:
            Problem: there are too many documents or characters, with status 422 and the field's name.
        """
        sizes = [len(text) for text in texts]
        if len(sizes) > self.documents:
            raise Problem(422, f"{field} holds {len(sizes)} documents; this server takes {self.documents}", field)
        by_field = {field: sum(sizes), **{name: len(text) for name, text in others}}
        total = sum(by_field.values())
        if total > self.characters:
            longest = max(by_field, key=lambda name: by_field[name])
            raise Problem(
                422,
                f"the request holds {total} characters, {by_field[longest]} of them in {longest}; this server takes "
                f"{self.characters}",
                longest,
            )
