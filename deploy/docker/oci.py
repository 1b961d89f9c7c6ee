"""Directories as an OCI image archive: the same files give the same bytes, wherever and whenever they are packed.

Source: OCI image format specification 1.1.
"""

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OCI = "application/vnd.oci.image"
_EPOCH = "1970-01-01T00:00:00Z"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Image:
    """`layers`: root file systems, the later laid over the former. Everything in them belongs to root."""

    name: str
    layers: tuple[Path, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    directory: str = "/"
    labels: dict[str, str] = field(default_factory=dict)


def archive(image: Image, target: Path) -> None:
    """Write it as a tar file that `ctr images import`, `podman load` and `skopeo` read."""
    with tarfile.open(target, "w") as out:
        layers = [_add_layer(out, layer, target.with_suffix(f".{number}")) for number, layer in enumerate(image.layers)]
        config = _add_json(out, _config(image, layers), f"{_OCI}.config.v1+json")
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": config,
            "layers": layers,
        }
        told = _add_json(out, manifest, manifest["mediaType"])
        told |= {"annotations": {"io.containerd.image.name": whole_name(image.name)}, "platform": _platform()}
        _add(out, "index.json", _bytes({"schemaVersion": 2, "manifests": [told]}))
        _add(out, "oci-layout", _bytes({"imageLayoutVersion": "1.0.0"}))


def whole_name(name: str) -> str:
    """As Kubernetes looks for it: a name without a registry is Docker Hub's."""
    registry = name.partition("/")[0]
    return name if "." in registry or ":" in registry or registry == "localhost" else f"docker.io/{name}"


def _platform() -> dict[str, str]:
    machine = platform.machine()
    return {"architecture": ARCHITECTURES.get(machine, machine), "os": "linux"}


def _config(image: Image, layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **_platform(),
        "created": _EPOCH,
        "config": {
            "Entrypoint": list(image.entrypoint),
            "Cmd": list(image.command),
            "Env": [f"{name}={value}" for name, value in sorted({"PATH": PATH, **image.environment}.items())],
            "User": image.user,
            "WorkingDir": image.directory,
            "Labels": image.labels,
        },
        # Layers are not compressed: they go no further than this machine's containerd.
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }


def _add_layer(out: tarfile.TarFile, root: Path, scratch: Path) -> dict[str, Any]:
    try:
        with tarfile.open(scratch, "w", format=tarfile.PAX_FORMAT) as layer:
            for path in sorted(root.rglob("*")):
                layer.add(path, str(path.relative_to(root)), recursive=False, filter=_anonymous)
        with scratch.open("rb") as file:
            digest, size = _digest(file), scratch.stat().st_size
            file.seek(0)
            out.addfile(_entry(f"blobs/sha256/{digest}", size), file)
    finally:
        scratch.unlink(missing_ok=True)
    return {"mediaType": f"{_OCI}.layer.v1.tar", "digest": f"sha256:{digest}", "size": size}


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while data := file.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest()


def _add_json(out: tarfile.TarFile, content: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = _bytes(content)
    digest = hashlib.sha256(data).hexdigest()
    _add(out, f"blobs/sha256/{digest}", data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    out.addfile(_entry(name, len(data)), io.BytesIO(data))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


def _bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
