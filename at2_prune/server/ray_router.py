"""The router of a Ray Serve deployment. It sends requests about the same passages to the same replica.

The replica's passage index usually holds the attention keys of these passages already. The model then need not read the
passages again.

This module uses an API that Ray marks as alpha. The module was tested with Ray 2.60.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from ..passages import Passage

__all__ = ["PassageRouter"]

REMEMBERED = 1_000_000
"""The maximum number of passages whose replica a router remembers. Each passage takes about 200 bytes."""


class PassageRouter(RequestRouter):
    """Sends a request to the replica that most of the request's passages were sent to before.

    Each passage votes for one replica. This is the replica that the passage was first sent to, if it still runs.
    Otherwise, it is the replica for which the hash of passage and replica is highest, so that all routers choose the
    same replica. Replicas with the same number of votes are ordered by the hash of all passages and the replica, the
    lowest hash first. If a replica has no free place, the request goes to the replica with the next highest number
    of votes.

    A request holds its passages in the keyword argument `passages`.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """Set up the router. Ray calls this method once."""
        self.homes: OrderedDict[bytes, ReplicaID] = OrderedDict()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Rank the replicas by their number of votes. Return one list for each rank, with the best rank first.

        Each list holds one replica. If the request has no passages, one list holds all replicas.
        """
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # otherwise Ray asks busy replicas again without a pause
        keys = passage_keys(pending_request.kwargs.get("passages", ()))
        if not keys:
            return [candidate_replicas]
        names = {replica.replica_id: replica.replica_id.unique_id for replica in candidate_replicas}
        votes = Counter(self._home(key, names) for key in keys)
        together = b"".join(keys)
        ties = {one: _digest(together + name.encode()) for one, name in names.items()}
        ranked = sorted(candidate_replicas, key=lambda replica: (-votes[replica.replica_id], ties[replica.replica_id]))
        return [[replica] for replica in ranked]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Remember this replica for the request's passages. A passage keeps an earlier replica that still runs."""
        for key in passage_keys(pending_request.kwargs.get("passages", ())):
            if self.homes.get(key) not in self.curr_replicas:
                self.homes[key] = replica_id
            self.homes.move_to_end(key)
        while len(self.homes) > REMEMBERED:
            self.homes.popitem(last=False)

    def _home(self, key: bytes, names: dict[ReplicaID, str]) -> ReplicaID:
        home = self.homes.get(key)
        if home in names:
            return home
        return max(names, key=lambda replica: _digest(key + names[replica].encode()))


def passage_keys(passages: Sequence[Passage]) -> list[bytes]:
    """Return a short digest of each passage's title and text."""
    return [_digest(repr((one.title or "", one.text)).encode("utf-8", "surrogatepass")) for one in passages]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()
