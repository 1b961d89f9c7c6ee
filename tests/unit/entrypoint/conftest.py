from pathlib import Path

import pytest
from attempt_dir import AttemptDir

from runner.entrypoint.build import binary


@pytest.fixture(scope="session")
def entrypoint() -> Path:
    return binary()


@pytest.fixture
def attempt(tmp_path: Path, entrypoint: Path) -> AttemptDir:
    return AttemptDir(tmp_path / "attempt", entrypoint)
