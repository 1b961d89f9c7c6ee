"""What an agent needs before it takes anything on."""

import os
import sys
from typing import Any

import pytest

from runner.agent.settings import Settings
from runner.agent.wiring import NoContainers, check_isolation


@pytest.mark.parametrize("isolation", ["podman", "containerd"])
def test_a_machine_without_the_runtimes_program_or_without_root_is_told_in_one_line(
    isolation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Settings(isolation=isolation, podman=["/no/podman"], containerd=["/no/nerdctl"])
    with pytest.raises(NoContainers, match=f"ISOLATION={isolation} can't be here: there is no program /no/"):
        check_isolation(missing)
    there = Settings(isolation=isolation, podman=[sys.executable], containerd=[sys.executable])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoContainers, match="has to run as root"):
        check_isolation(there)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check_isolation(there)


def test_processes_need_nothing() -> None:
    check_isolation(Settings(isolation="process", podman=["/no/podman"], containerd=["/no/nerdctl"]))
