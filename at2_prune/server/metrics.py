"""The metrics of a server, for Prometheus. The labels are endpoint paths and HTTP statuses, and never texts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counts and times of one application."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["endpoint", "status"]
        self.requests = Counter("at2_prune_requests", "Answered requests.", labels, registry=self.registry)
        self.seconds = Histogram(
            "at2_prune_request_seconds",
            "Seconds from the arrival of a request's headers to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.documents = Counter("at2_prune_documents", "Documents in the requests.", registry=self.registry)
        self.batches = Histogram(
            "at2_prune_batch_size", "Requests that were scored as one batch.", buckets=_SIZES, registry=self.registry
        )
        self.waiting = Gauge("at2_prune_waiting_requests", "Requests that wait now.", registry=self.registry)

    def watch(self, waiting: Callable[[], float]) -> None:
        """Set the function that returns the number of waiting requests."""
        self.waiting.set_function(waiting)

    def answered(self, endpoint: str, status: int, seconds: float, documents: int) -> None:
        """Count a request that was answered."""
        self.requests.labels(endpoint, str(status)).inc()
        self.seconds.labels(endpoint).observe(seconds)
        self.documents.inc(documents)

    def page(self) -> bytes:
        """Return all numbers in the text format of Prometheus."""
        return generate_latest(self.registry)
