"""The limits of a server: what one request may hold, how many may wait, and how long.

Each is declared once, in this file. Nothing here imports FastAPI, so that `at2-prune serve --help` can read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The limits of a server. The fields' `metadata["help"]` says what each of them limits."""

    max_waiting: int = field(
        default=128, metadata={"help": "requests that may wait; a further one is answered with 429"}
    )
    max_together: int = field(default=8, metadata={"help": "waiting requests that are scored as one batch"})
    max_documents: int = field(default=1000, metadata={"help": "documents of one request"})
    max_characters: int = field(
        default=2_000_000, metadata={"help": "characters of one request: question, documents and draft"}
    )
    max_body_bytes: int = field(default=16 * 1024 * 1024, metadata={"help": "bytes of one request"})
    timeout: float = field(default=60, metadata={"help": "seconds for receiving a request, and then for answering it"})
