"""Submit a job over the bus and follow it from queued to its verdict, with nothing but nats-py.

    overspill up                                         # in another terminal
    overspill identity service default --out service.creds
    python examples/publish_job.py --url nats://… --creds service.creds

The exit code is 0 when the job succeeded, 1 when it did not, 2 when it was refused.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import sys
import uuid
from pathlib import Path

import nats
from nats.aio.msg import Msg

SPEC = {"name": "over the bus", "steps": [{"name": "greet", "run": "echo hello from the bus"}]}
FINAL = {"succeeded", "failed", "cancelled", "timed_out", "error"}


def job_id(tenant: str, source: str, event_id: str) -> str:
    """The id the platform will give the job: known before it is published, the same however often it is."""
    digest = hashlib.sha256()
    for part in ("event", tenant, source, event_id):
        digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return base64.b32encode(digest.digest()[:16]).decode().rstrip("=").lower()


async def publish_and_follow(options: argparse.Namespace) -> int:
    spec = json.loads(options.spec.read_text()) if options.spec else SPEC
    event_id = options.id or str(uuid.uuid4())
    job = job_id(options.tenant, options.source, event_id)
    # A credential's inbox carries its party's name.
    bus = await nats.connect(
        options.url, user_credentials=str(options.creds), inbox_prefix=f"_INBOX_service-{options.tenant}"
    )
    try:
        # Listen first: the feed is live, and what came before isn't repeated.
        feed = await bus.subscribe(f"feed.{options.tenant}.{job}.>")
        await bus.flush()
        stored = await bus.request(
            f"submit.{options.tenant}",
            json.dumps({"spec": spec}).encode(),
            timeout=10,
            headers={
                "ce-specversion": "1.0",
                "ce-id": event_id,
                "ce-source": options.source,
                "ce-type": "overspill.job.submitted.v1",
                "content-type": "application/json",
            },
        )
        error = json.loads(stored.data).get("error")
        if error:
            print(f"not accepted: {error}", file=sys.stderr)
            return 2
        print(f"job {job}")
        async for message in feed.messages:
            verdict = tell(message)
            if verdict is not None:
                return verdict
    finally:
        await bus.close()
    return 1


def tell(message: Msg) -> int | None:
    """Print what happened; the exit code once it is the verdict."""
    *_, epoch, kind = message.subject.split(".")
    data = json.loads(message.data)
    if kind == "record":
        print(f"    {data['state']}")
        if data["state"] in FINAL:
            return 0 if data["state"] == "succeeded" else 1
    elif kind == "submission-refused":
        print(f"refused: {data['detail']}", file=sys.stderr)
        return 2
    else:
        print(f"  {epoch} {kind} {data.get('name', '')}")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Submit a job over the bus and follow it.")
    parser.add_argument("--url", required=True, help="address of the bus, as `overspill up` prints it")
    parser.add_argument("--creds", required=True, type=Path, help="credential of a service of the tenant")
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--spec", type=Path, help="a spec in JSON; default: a greeting")
    parser.add_argument("--source", default="/examples/publish_job")
    parser.add_argument("--id", help="the same source and id name the same job")
    return asyncio.run(publish_and_follow(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
