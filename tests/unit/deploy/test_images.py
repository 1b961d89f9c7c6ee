"""Images: one page says what is in them, and the same files are the same image."""

import re
import tarfile
from pathlib import Path

import pytest

from deploy.docker.contents import CONTENTS, ENTRYPOINTS, ENVIRONMENT, HOME, USER
from deploy.docker.lock import LOCK, NotLocked, entries, select
from deploy.docker.oci import Image, archive, whole_name

DOCKERFILE = Path(LOCK.parents[1], "deploy/docker/Dockerfile").read_text()


def a_tree(root: Path) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc/one").write_text("1")
    (root / "etc/two").symlink_to("one")
    return root


def test_the_same_files_are_the_same_image(tmp_path: Path) -> None:
    one, other = a_tree(tmp_path / "a"), a_tree(tmp_path / "b")
    for number, root in enumerate((one, other)):
        archive(Image("localhost/x:1", (root,)), tmp_path / f"{number}.tar")
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()


def test_everything_in_an_image_is_root_s(tmp_path: Path) -> None:
    archive(Image("localhost/x:1", (a_tree(tmp_path / "a"),)), tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as outer:
        layer = max((each for each in outer.getmembers() if each.name.startswith("blobs/")), key=lambda each: each.size)
        with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
            assert {(each.name, each.uid, each.gid, each.mtime) for each in inner.getmembers()} == {
                (name, 0, 0, 0) for name in ("etc", "etc/one", "etc/two")
            }


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_an_image_gets_is_locked_with_hashes(kind: str) -> None:
    contents = CONTENTS[kind]
    chosen = entries(select(LOCK.read_text(), contents.wheels, contents.without))
    assert set(chosen) == (contents.wheels or set(entries(LOCK.read_text()))) - contents.without
    assert all("--hash=sha256:" in entry for entry in chosen.values())


def test_a_wheel_that_is_not_locked_is_refused() -> None:
    with pytest.raises(NotLocked, match="leftpad"):
        select("nats-py==2.16.0 \\\n    --hash=sha256:00\n", {"leftpad"})


def test_step_ctl_s_image_has_no_slow_imports() -> None:
    assert CONTENTS["step-ctl"].wheels is not None
    assert not CONTENTS["step-ctl"].wheels & {"aiohttp", "aioboto3", "fastapi", "rich", "kubernetes-asyncio"}


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_dockerfile_makes_what_the_page_says(kind: str) -> None:
    contents = CONTENTS[kind]
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL))
    words = ", ".join(f'"{word}"' for word in contents.command)
    assert f"ENTRYPOINT [{words}]" in stages[kind]
    files = stages[f"{kind}-files"] + (stages["services-files"] if kind == "one-machine" else "")
    assert f"deploy.docker.lock {kind} " in files
    assert set(re.findall(rf"^COPY \S+ {HOME}/(\S+)$", files, flags=re.MULTILINE)) == set(contents.sources)
    assert (f"COPY --from=entrypoints {ENTRYPOINTS}" in files) == contents.entrypoints
    for name, value in contents.environment.items():
        assert f"{name}={value}" in stages[kind]
    assert (f"FROM run-git AS {kind}" in DOCKERFILE) == contents.has_git
    assert f"USER {USER}:{USER}" in stages["run"]
    assert stages["run-git"].endswith(f"USER {USER}:{USER}\n\n")
    for name, value in ENVIRONMENT.items():
        assert f"{name}={value}" in stages["run"]


def test_an_image_s_name_is_the_one_that_pods_say() -> None:
    assert whole_name("overspill/step-ctl:1") == "docker.io/overspill/step-ctl:1"
    assert whole_name("localhost/busybox:1") == "localhost/busybox:1"
    assert whole_name("registry.test:5000/x/y:1") == "registry.test:5000/x/y:1"
