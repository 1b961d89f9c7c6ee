"""Stores a finished attempt's artifacts: pack, upload, tell. What was stored is on disk, so a second step-ctl does it
once.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from runner.protocol.attempt import Attempt
from runner.protocol.boot import of_former_boot
from runner.protocol.directory import AttemptDir, read_whole, write_whole
from runner.step_ctl.artifacts import ArtifactTooLarge, find, pack
from runner.step_ctl.aside import aside
from runner.step_ctl.courier import Courier
from runner.step_ctl.platform_log import PlatformLog
from runner.step_ctl.policy import Verdict
from runner.step_ctl.transfer import TransferRefused, upload
from shared.crash_points import crash_point
from shared.errors import OverspillError, Rejected, Unavailable
from shared.facts.step import ArtifactStored
from shared.lifecycle import Reason
from shared.requests import Presigned, UrlsAsked
from shared.spec import Artifact
from shared.wire import decode, encode

PATIENCE_SECONDS = 300.0
"""How long an object store that can't be reached is asked again."""


def wanted(artifacts: Sequence[Artifact], verdict: Verdict) -> list[Artifact]:
    """Which artifacts a verdict calls for. Who cancels wants an end, not an upload; a job that hung may well be
    looked into.
    """
    match verdict.outcome:
        case "succeeded":
            words = {"success", "always"}
        case "failed" | "timed_out":
            words = {"failure", "always"}
        case _:
            words = set()
    return [artifact for artifact in artifacts if artifact.when in words]


class Keeper:
    """Of one attempt's artifacts."""

    def __init__(self, directory: AttemptDir, attempt: Attempt, courier: Courier, platform: PlatformLog) -> None:
        self._directory = directory
        self._attempt = attempt
        self._courier = courier
        self._platform = platform

    async def keep(self, verdict: Verdict) -> Verdict:
        """The verdict once the artifacts it calls for are stored: the same, or why success is none."""
        for artifact in wanted(self._attempt.grant.spec.artifacts, verdict):
            number = self._attempt.grant.spec.artifacts.index(artifact)
            worse = await self._keep_one(number, artifact)
            if worse is not None and verdict.outcome == "succeeded":
                # The last exit code is recorded: an error that names its step is not run again.
                last = len(self._attempt.grant.spec.steps) if worse.outcome == "error" else None
                verdict = Verdict(worse.outcome, worse.reason, worse.message, last, verdict.exit_code)
        return verdict

    async def _keep_one(self, number: int, artifact: Artifact) -> Verdict | None:
        """None when it went well."""
        done = self._directory.step(0, f"artifact-{number}.json")
        known = read_whole(done)
        if known is None:
            if of_former_boot(self._attempt.boot_id):
                why = f"the machine was restarted before artifact {artifact.name!r} was stored: its files may be cut"
                return self._complain("error", Reason.MACHINE_LOST, why)
            try:
                fact = await self._store(number, artifact)
            except (ArtifactTooLarge, Rejected, TransferRefused) as error:
                return self._complain("failed", Reason.ARTIFACT_MISSING, str(error))
            except OverspillError as error:
                return self._complain("error", Reason.OBJECT_STORE_UNAVAILABLE, str(error))
            except OSError as error:
                message = f"Artifact {artifact.name!r}: the machine could not pack it: {error}"
                return self._complain("error", Reason.SETUP_FAILED, message)
            crash_point("step-ctl.after-upload-before-telling")
            if fact is None:
                paths = ", ".join(artifact.paths)
                message = f"Artifact {artifact.name!r}: nothing in the workspace matches {paths}"
                return self._complain("failed", Reason.ARTIFACT_MISSING, message)
            write_whole(done, encode(fact))
        else:
            fact = decode(ArtifactStored, known)
        await self._courier.tell(fact, str(number))
        return None

    def _complain(self, outcome: str, reason: Reason, message: str) -> Verdict:
        self._platform.line(message)
        return Verdict("failed" if outcome == "failed" else "error", reason, message[:500])

    async def _store(self, number: int, artifact: Artifact) -> ArtifactStored | None:
        began = time.monotonic()
        matches = await aside(find, self._directory.work, artifact.paths)
        for line in matches.left_out:
            self._platform.line(f"Artifact {artifact.name!r}: {line}; left out")
        if not matches.paths:
            return None
        target = self._directory.step(0, f"artifact-{number}.tar.gz")
        try:
            packed = await aside(pack, self._directory.work, matches.paths, target, artifact.name)
            presigned = await self._upload(artifact.name, target)
        finally:
            target.unlink(missing_ok=True)
        took = time.monotonic() - began
        self._platform.line(
            f"Artifact {artifact.name!r}: {packed.files} files, {packed.size_bytes} bytes, in {took:.2f} s"
        )
        now = time.time_ns()
        grant = self._attempt.grant
        return ArtifactStored(
            tenant=grant.tenant,
            job=grant.job,
            epoch=grant.epoch,
            at_unix_ns=now,
            name=artifact.name,
            key=presigned.key,
            size_bytes=packed.size_bytes,
            sha256=packed.sha256,
            files=packed.files,
            expires_unix=now // 1_000_000_000 + round(artifact.expire),
        )

    async def _upload(self, name: str, source: Path) -> Presigned:
        patience = self._courier.patience()
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                address = await self._address(name)
                await aside(upload, address, source)
            except Unavailable as error:
                if time.monotonic() >= until:
                    raise
                self._platform.line(f"Artifact {name!r}: trying again: {error}")
                await patience.pause()
            else:
                return address

    async def _address(self, name: str) -> Presigned:
        told = await self._courier.ask_urls(UrlsAsked(artifacts=[name]))
        if name not in told.artifacts:
            raise Unavailable(what="the cache service", why=f"it gave no address for artifact {name!r}")
        return told.artifacts[name]
