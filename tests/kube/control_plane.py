"""A control plane of a test's own: etcd and kube-apiserver, with controllers and scheduler where asked for.

Every server listens on 127.0.0.1 on a free port and runs under a guard that ends it with the test session.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overspill.embedded.ports import choose
from shared.adapters.kube_api import KubeServer
from shared.clock import SystemClock
from shared.kube import SERVICE_ACCOUNT
from shared.kube_following import Listed, Selection, follow
from tests.conftest import guarded
from tests.kube import assets
from tests.kube.certificates import Authority, Pair

READY_SECONDS = 90
ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass
class ControlPlane:
    """Use `running`. `kill` and `restart` play outages: addresses and data stay."""

    home: Path
    advertise: str = "127.0.0.1"
    extra_hosts: tuple[str, ...] = ()
    binaries: Path = field(default_factory=lambda: assets.ensure(assets.API))
    url: str = ""
    kubeconfig: Path = field(init=False)
    authority: Authority = field(init=False)
    _commands: dict[str, list[str]] = field(default_factory=dict)
    _running: dict[str, contextlib.ExitStack] = field(default_factory=dict)
    _processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self) -> None:
        ports = choose(("client", "peer", "api"), {})
        etcd, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("client", "peer"))
        self.url = f"https://127.0.0.1:{ports['api']}"
        self.authority = Authority(self.home / "pki")
        admin = self.authority.client("admin", ["system:masters"])
        self.kubeconfig = self.write_kubeconfig("admin", admin)
        self.run("etcd", self._etcd(etcd, peer))
        self.until("etcd", lambda: b"true" in urllib.request.urlopen(f"{etcd}/health", timeout=2).read())
        self.run("kube-apiserver", self._api_server(etcd, ports["api"]))
        self.until_ready()

    def start_controllers(self) -> None:
        """kube-controller-manager and kube-scheduler: quotas, garbage collection, namespaces, placing pods."""
        self.binaries = assets.ensure(assets.CONTROL_PLANE)
        pki = self.home / "pki"
        for name in ("kube-controller-manager", "kube-scheduler"):
            pair = self.authority.client(f"system:{name}")
            file = str(self.write_kubeconfig(name, pair))
            words = [
                f"--kubeconfig={file}",
                f"--authentication-kubeconfig={file}",
                f"--authorization-kubeconfig={file}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={choose((name,), {})[name]}",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
            ]
            if name == "kube-controller-manager":
                words += [
                    f"--service-account-private-key-file={pki / 'accounts.key'}",
                    f"--root-ca-file={self.authority.file}",
                    "--use-service-account-credentials=true",
                    "--controllers=*,-node-ipam-controller",
                    "--node-monitor-grace-period=20s",
                    # It counts a new quota once, perhaps before it has seen the first pod, then minutes later.
                    "--resource-quota-sync-period=2s",
                ]
            self.run(name, [str(self.binaries / name), *words])
        self.until(
            "kube-controller-manager", lambda: self.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        )

    def _etcd(self, url: str, peer: str) -> list[str]:
        pairs = {
            "data-dir": str(self.home / "etcd"),
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "warn",
        }
        return [str(self.binaries / "etcd"), "--unsafe-no-fsync", *(f"--{key}={value}" for key, value in pairs.items())]

    def _api_server(self, etcd: str, port: int) -> list[str]:
        own = self.authority.server(
            "kube-apiserver",
            ["127.0.0.1", "localhost", "10.96.0.1", "kubernetes.default.svc", *self.extra_hosts],
        )
        kubelet = self.authority.client("kube-apiserver-kubelet-client", ["system:masters"])
        accounts = self.authority.signing_key("accounts")
        pairs = {
            "etcd-servers": etcd,
            "bind-address": "127.0.0.1",
            "secure-port": port,
            "advertise-address": self.advertise,
            "tls-cert-file": own.certificate,
            "tls-private-key-file": own.key,
            "client-ca-file": self.authority.file,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "service-account-issuer": ISSUER,
            "service-account-key-file": accounts,
            "service-account-signing-key-file": accounts,
            "service-cluster-ip-range": "10.96.0.0/16",
            "allow-privileged": "true",
            "kubelet-client-certificate": kubelet.certificate,
            "kubelet-client-key": kubelet.key,
            "kubelet-certificate-authority": self.authority.file,
            "kubelet-preferred-address-types": "InternalIP",
            "v": 1,
        }
        return [str(self.binaries / "kube-apiserver"), *(f"--{key}={value}" for key, value in pairs.items())]

    # Processes

    def run(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        self._commands[name] = command
        stack = contextlib.ExitStack()
        self._processes[name] = stack.enter_context(guarded(command, self.log(name), environment, directory=self.home))
        self._running[name] = stack

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def end(self, name: str) -> None:
        self._running.pop(name).close()

    def kill(self, name: str) -> None:
        """kill -9 of the program itself; its guard then ends too."""
        pid = self._processes[name].pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            subprocess.run(["kill", "-9", child], check=True)
        self._processes[name].wait(10)
        self.end(name)

    def restart(self, name: str) -> None:
        self.run(name, self._commands[name])

    def stop(self, sparing: tuple[str, ...] = ()) -> None:
        for name in reversed(list(self._running)):
            if name not in sparing:
                self.end(name)

    # Asking

    def until_ready(self) -> None:
        self.until("kube-apiserver", lambda: self._raw("GET", "/readyz") == b"ok")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """As the cluster's admin. Raises urllib.error.HTTPError."""
        return json.loads(self._raw(method, path, body))

    def text(self, path: str, server: str = "") -> str:
        """Of what is no JSON, as a log. `server`: another than the API server."""
        return self._raw("GET", path, server=server).decode()

    def _raw(self, method: str, path: str, body: Any = None, server: str = "") -> bytes:
        admin = self.home / "pki" / "admin"
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.load_cert_chain(admin.with_suffix(".crt"), admin.with_suffix(".key"))
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            (server or self.url) + path, method=method, data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return bytes(answer.read())

    def until(self, name: str, look: Any) -> None:
        """Until `look` is true; the server `name` is whose log tells why not."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if look():
                    return
            tail = self.log(name).read_text(errors="replace")[-2000:]
            assert self._processes[name].poll() is None, f"{name} has ended:\n{tail}"
            assert time.monotonic() < deadline, f"{name} isn't ready:\n{tail}"
            time.sleep(0.05)

    # Credentials

    def write_kubeconfig(self, name: str, who: Pair | str) -> Path:
        """`who`: a certificate, or a token."""
        user = (
            {"token": who}
            if isinstance(who, str)
            else {"client-certificate-data": _base64(who.certificate), "client-key-data": _base64(who.key)}
        )
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": self.url, "certificate-authority-data": _base64(self.authority.file)},
                }
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name, "namespace": "default"}}],
        }
        file = self.home / f"{name}.kubeconfig"
        file.write_text(json.dumps(content))
        file.chmod(0o600)
        return file

    async def until_account(self, namespace: str) -> None:
        """A namespace takes pods once the controllers have made its default service account."""
        async with KubeServer.connect(self.kubeconfig) as api:
            selection = Selection(SERVICE_ACCOUNT, namespace, fields="metadata.name=default")
            async with (
                asyncio.timeout(READY_SECONDS),
                contextlib.aclosing(follow(api, selection, SystemClock())) as told,
            ):
                async for each in told:
                    if not isinstance(each, Listed) or each.items:
                        return

    def add_runtime_class(self, name: str) -> None:
        body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "runc"}
        with contextlib.suppress(urllib.error.HTTPError):  # it is there already
            self.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", body)

    def account_kubeconfig(self, namespace: str, account: str) -> Path:
        """As that service account, by a token the API server signs: what a pod of it would be."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token = self.call("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        return self.write_kubeconfig(f"{namespace}-{account}", token["status"]["token"])


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


@contextlib.contextmanager
def running(home: Path, *, controllers: bool = False) -> Iterator[ControlPlane]:
    plane = ControlPlane(home)
    try:
        plane.start()
        if controllers:
            plane.start_controllers()
        yield plane
    finally:
        plane.stop()
