"""The limits of a server: the size of a request, the number of waiting requests, and the time for a request.

Each limit is declared once, in this file. The file does not import FastAPI, so that `at2-prune serve --help` can read
the limits without FastAPI.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The limits of a server. The `metadata["help"]` of a field says what the field limits."""

    max_waiting: int = field(
        default=128,
        metadata={"help": "the maximum number of waiting requests; further requests are answered with status 429"},
    )
    max_together: int = field(
        default=8, metadata={"help": "the maximum number of requests that are scored as one batch"}
    )
    max_documents: int = field(default=1000, metadata={"help": "the maximum number of documents in a request"})
    max_characters: int = field(
        default=2_000_000,
        metadata={"help": "the maximum number of characters in a request: question, documents and draft"},
    )
    max_body_bytes: int = field(
        default=16 * 1024 * 1024, metadata={"help": "the maximum number of bytes in the body of a request"}
    )
    timeout: float = field(
        default=60,
        metadata={
            "help": "the maximum number of seconds to wait for the next part of a request, and the maximum number of "
            "seconds to answer a request"
        },
    )
