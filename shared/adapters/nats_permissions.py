"""What a party may say and hear on the wire, cut from its line in `shared.flow`.

JetStream's own subjects appear here alone: a party that reads a stream may ask for it, one that works may acknowledge,
one that writes a bucket may publish its keys. Data subjects come from the party's `publishes` and nowhere else.
"""

from collections.abc import Iterator
from typing import Any

from shared.flow import BUCKETS
from shared.parties import Party

RESPONSE_SECONDS = 120
_EDGE_SUBSCRIPTIONS = 512
"""Of one user of a tenant or cluster: far more than any of ours needs, too few to hurt the server."""

PROVISIONER = Party("provisioner", "hub", publishes=("$JS.API.>",), why="creates streams and buckets")
SEEDER = Party(
    "seeder",
    "hub",
    publishes=(),
    buckets=tuple(bucket for bucket in BUCKETS if bucket.name in ("TENANTS", "CLUSTERS")),
    writes_buckets=tuple(bucket for bucket in BUCKETS if bucket.name in ("TENANTS", "CLUSTERS")),
    why="writes down the first tenant and cluster",
)


def _reading(stream: str) -> Iterator[str]:
    """Last values, the stream's ends, and readers that are thrown away."""
    yield f"$JS.API.STREAM.INFO.{stream}"
    yield f"$JS.API.STREAM.MSG.GET.{stream}"
    yield f"$JS.API.DIRECT.GET.{stream}.>"
    yield f"$JS.API.CONSUMER.CREATE.{stream}.*"
    yield f"$JS.API.CONSUMER.DELETE.{stream}.*"
    yield f"$JS.FC.{stream}.>"


def _working(stream: str) -> Iterator[str]:
    """A durable consumer's messages and their acknowledgement."""
    yield f"$JS.API.CONSUMER.CREATE.{stream}.*"
    yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*"
    yield f"$JS.ACK.{stream}.>"


def publishes(party: Party) -> list[str]:
    """Every subject the party may publish, the data subjects first."""
    subjects = list(party.publishes)
    subjects.extend(f"$KV.{bucket.name}.>" for bucket in party.writes_buckets)
    for stream in party.reads:
        subjects.extend(_reading(stream.name))
    for bucket in party.buckets:
        subjects.extend(_reading(f"KV_{bucket.name}"))
    for stream in party.works:
        subjects.extend(_working(stream.name))
    subjects.extend(f"$JS.API.STREAM.PURGE.{stream.name}" for stream in party.purges)
    subjects.extend(f"$JS.API.STREAM.INFO.{stream.name}" for stream in party.sizes)
    subjects.extend(["$JS.API.INFO"] if party.sizes else [])
    return list(dict.fromkeys(subjects))


def _answers(party: Party) -> bool:
    """Does anybody send this party requests?"""
    return any(subject.startswith(("svc.", "ask.", "edge.")) for subject in party.subscribes)


def user_claim(party: Party) -> dict[str, Any]:
    """The `nats` part of the party's user JWT. Its inbox is its own: nobody else of its account may listen there."""
    said = publishes(party)
    claim: dict[str, Any] = {
        "type": "user",
        "version": 2,
        # An empty list would allow everything.
        "pub": {"allow": said} if said else {"deny": [">"]},
        "sub": {"allow": [*party.subscribes, f"_INBOX_{party.name}.>"]},
        "subs": -1 if party.account == "hub" else _EDGE_SUBSCRIPTIONS,
        "data": -1,
        "payload": -1,
    }
    if _answers(party):
        claim["resp"] = {"max": 1, "ttl": RESPONSE_SECONDS * 1_000_000_000}
    return claim
