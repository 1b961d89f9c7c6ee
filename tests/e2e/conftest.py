"""One platform for all tests of this folder that do not break it."""

from collections.abc import Iterator

import pytest

from tests.e2e.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("home")
    platform = Platform(home, home / "data")
    platform.start()
    yield platform
    assert platform.end() == 0, (home / "up.err").read_text()
