"""Documents that show a spec show one that is admitted."""

import re
from pathlib import Path

import pytest

from shared.spec_reading import read_spec

ROOT = Path(__file__).parents[3]
SPECS = [
    (path.relative_to(ROOT), block)
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
    for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    if re.search(r"^steps:", block, re.MULTILINE)
]


@pytest.mark.parametrize(("path", "text"), SPECS, ids=lambda value: str(value)[:40] if isinstance(value, Path) else "")
def test_a_spec_in_a_document_is_admitted(path: Path, text: str) -> None:
    assert read_spec(text).steps, path


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/build.yaml")), ids=lambda path: path.parent.name)
def test_an_examples_spec_is_admitted(path: Path) -> None:
    assert read_spec(path.read_bytes()).steps


CITED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/reliability.md").read_text())))


@pytest.mark.parametrize(("file", "name"), CITED, ids=lambda value: value or "whole")
def test_a_promise_names_a_test_that_is_there(file: str, name: str) -> None:
    assert re.search(rf"^ *(async )?(def )?{name}\b", (ROOT / file).read_text(), re.MULTILINE)
