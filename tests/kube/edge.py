"""Controllers as processes, with a test's hub on a real bus and a real API server."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from shared.adapters.identity import Identity
from shared.crash_points import CRASH_AT
from shared.facts import AttemptEnded, Order
from shared.flow import Evt
from shared.lifecycle import Reason
from shared.parties import controller_party
from shared.wire import encode
from tests.integration.runner.hub import CLUSTER, PATIENCE_SECONDS, ROOT, Hub


class Bus(Protocol):
    @property
    def url(self) -> str: ...

    @property
    def identity(self) -> Identity: ...


_SKEW = """
import datetime, time
true, true_ns = time.time, time.time_ns
time.time = lambda: true() + {seconds}
time.time_ns = lambda: true_ns() + round({seconds} * 10**9)
class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Skewed
"""


def _variable(setting: str) -> str:
    return setting if setting.startswith("OVERSPILL_") else f"OVERSPILL_CONTROLLER_{setting}"


@dataclass
class ControllerProcess:
    """`python -m runner.controller`, as an identity of its own. `environment`: settings, without their prefix, and
    others by their whole names.
    """

    bus: Bus
    kubeconfig: Path
    namespace: str
    home: Path
    identity: str = "one"
    environment: dict[str, str] = field(default_factory=dict)
    dies_at: str = ""
    skew_seconds: float = 0.0
    """How far its wall clock is ahead."""
    cluster: str = CLUSTER
    credential: str = ""
    """Its file's text; empty: one of the bus' identity."""
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> Self:
        self.home.mkdir(exist_ok=True, parents=True)
        creds = self.home / "controller.creds"
        creds.write_text(self.credential or self._own_credential())
        settings = {
            "CLUSTER": self.cluster,
            "KUBECONFIG": str(self.kubeconfig),
            "NAMESPACE": self.namespace,
            "IDENTITY": self.identity,
            "LEASE_SECONDS": "3",
            "ORDERS_SECONDS": "1",
            "GRACE_SECONDS": "1",
            "OBEY_SECONDS": "2",
            "UNSCHEDULABLE_SECONDS": "2",
            "KEEP_SECONDS": "0.5",
            "MISSING_SECONDS": "2",
            "VANISH_SECONDS": "2",
            "WALLS_SECONDS": "1",
        }
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self._clock()}:{ROOT}",
            "OVERSPILL_NATS_URL": self.bus.url,
            "OVERSPILL_NATS_CREDS_FILE": str(creds),
            **{_variable(name): value for name, value in (settings | self.environment).items()},
            **({CRASH_AT: f"{self.dies_at}:1"} if self.dies_at else {}),
        }
        with (self.home / "controller.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runner.controller"], env=environment, cwd=ROOT, stdout=errors, stderr=errors
            )
        return self

    def _clock(self) -> Path:
        """What Python imports first."""
        folder = self.home / "clock"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(_SKEW.format(seconds=self.skew_seconds))
        return folder

    def _own_credential(self) -> str:
        own = self.bus.identity.credential(controller_party(self.cluster), cluster=self.cluster)
        return own.to_file_text()

    def signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_SECONDS)
        self.process = None
        return code

    def kill(self) -> None:
        """If it runs."""
        if self.process is not None:
            self.signal(signal.SIGKILL)

    def complaints(self) -> str:
        return (self.home / "controller.err").read_text()


def name_of(order: Order) -> str:
    return f"{order.job}-{order.epoch}"


async def succeed(hub: Hub, order: Order) -> None:
    """As the pod's step-ctl tells it."""
    ended = AttemptEnded(
        tenant=order.tenant,
        job=order.job,
        epoch=order.epoch,
        at_unix_ns=1,
        outcome="succeeded",
        reason=Reason.ALL_STEPS_OK,
        exit_code=0,
    )
    await hub.bus.publish(Evt(order.tenant, order.job, order.epoch, ended.token()), encode(ended), expect_seq=0)
