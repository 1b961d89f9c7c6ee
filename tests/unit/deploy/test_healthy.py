"""What compose.yaml's health checks call healthy."""

import fcntl
import socket
from pathlib import Path

from overspill import healthy


def test_a_port_that_somebody_listens_at_is_healthy_and_one_without_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert healthy.main("port", port) is None
    assert "refused" in str(healthy.main("port", port))


def test_an_address_that_does_not_answer_is_not_healthy() -> None:
    assert "refused" in str(healthy.main("url", "http://127.0.0.1:1/readyz"))


def test_a_file_is_healthy_while_somebody_holds_its_lock(tmp_path: Path) -> None:
    file = tmp_path / "agent.lock"
    assert "No such file" in str(healthy.main("locked", str(file)))
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert healthy.main("locked", str(file)) is None
    assert healthy.main("locked", str(file)) == f"nobody holds {file}"


def test_a_kind_that_is_none_is_not_healthy() -> None:
    assert healthy.main("prot", "4222") == "port, url or locked, not prot"
