"""What a step hands to the ones after it."""

import string

import pytest
from attempt_dir import AttemptDir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DUMP = "env -0"


def environment_of(attempt: AttemptDir, step: int) -> dict[bytes, bytes]:
    items = attempt.log(step).split(b"\0")[:-1]
    return dict(item.split(b"=", 1) for item in items)


def test_a_step_sees_what_the_steps_before_it_wrote_and_later_ones_win(attempt: AttemptDir) -> None:
    steps = attempt.chain(
        'echo "A=1" >> $OVERSPILL_ENV; echo "B=1" >> $OVERSPILL_ENV',
        'echo "B=2" >> $OVERSPILL_ENV; echo "BASE=over" >> $OVERSPILL_ENV',
        DUMP,
        env={"BASE": "base"},
    )
    attempt.run(*steps)
    seen = environment_of(attempt, 3)
    assert (seen[b"A"], seen[b"B"], seen[b"BASE"]) == (b"1", b"2", b"over")


def test_a_value_may_have_many_lines_and_any_signs(attempt: AttemptDir) -> None:
    steps = attempt.chain(DUMP, DUMP)
    attempt.path(1, "env.out").write_bytes(
        b"TEXT<<END\nfirst\n\nEND \n=x<<\xff\nEND\nEMPTY<<E\nE\nA=b=c<<d\nLAST=no newline"
    )
    attempt.run(*steps)
    seen = environment_of(attempt, 2)
    assert seen[b"TEXT"] == b"first\n\nEND \n=x<<\xff"
    assert (seen[b"EMPTY"], seen[b"A"], seen[b"LAST"]) == (b"", b"b=c<<d", b"no newline")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"A=1\nnonsense\n", 2),
        (b"1A=2\n", 1),
        (b"A=1\n\nB=2\n", 2),
        (b"A<<END\nx\n", 1),
        (b"A=1\nB<<\n", 2),
        (b"A B=1\n", 1),
        (b"=1\n", 1),
        (b"A=1\nB=\x00\n", 2),
        (b"OVERSPILL_JOB=1\n", 1),
        (b"A=1\nOVERSPILL_X<<E\ny\nE\n", 2),
    ],
)
def test_a_bad_line_makes_the_step_that_wrote_it_fail(attempt: AttemptDir, text: bytes, line: int) -> None:
    steps = attempt.chain("true", "true")
    attempt.path(1, "env.out").write_bytes(text)
    attempt.run(*steps)
    end = attempt.exit(1)
    assert (end["state"], end["code"], end["verdict"]) == ("exited", "0", "failed")
    assert f"env.out line {line}:" in end["message"]
    assert attempt.exit(2)["state"] == "skipped"
    assert attempt.finish == "failed"


def test_of_a_bad_file_nothing_is_taken(attempt: AttemptDir) -> None:
    steps = attempt.chain("true", DUMP, if_="always")
    attempt.path(1, "env.out").write_bytes(b"GOOD=1\nbad\n")
    attempt.run(*steps)
    assert b"GOOD" not in environment_of(attempt, 2)


def test_an_env_out_that_became_a_fifo_hangs_nobody(attempt: AttemptDir) -> None:
    steps = attempt.chain("rm $OVERSPILL_ENV; mkfifo $OVERSPILL_ENV", "true")
    attempt.run(*steps)
    assert "env.out can't be read" in attempt.exit(1)["message"]
    assert attempt.finish == "failed"


def test_a_removed_env_out_is_an_empty_one(attempt: AttemptDir) -> None:
    steps = attempt.chain("rm $OVERSPILL_ENV", "true")
    attempt.run(*steps)
    assert attempt.finish == "ok"


def test_the_command_is_found_in_the_path_its_predecessors_made(attempt: AttemptDir) -> None:
    steps = attempt.chain(
        'mkdir tools; printf "#!/bin/sh\\necho found\\n" > tools/thing; chmod +x tools/thing; '
        'echo "PATH=$PWD/tools:$PATH" >> $OVERSPILL_ENV',
        ["thing"],
    )
    attempt.run(*steps)
    assert attempt.log(2) == b"found\n"


def test_a_step_has_no_other_environment_than_its_own(attempt: AttemptDir) -> None:
    attempt.step(1, ["env"], env={"ONLY": "this"})
    attempt.run(1)
    names = {line.split(b"=")[0] for line in attempt.log(1).splitlines()}
    assert names == {b"PATH", b"ONLY", b"OVERSPILL_ENV", b"OVERSPILL_OUTPUT", b"OVERSPILL_SUMMARY"}


# The parser against a model written the other way round: by lines, in Python.
NAME_START, NAME_REST = string.ascii_letters + "_", string.ascii_letters + string.digits + "_"


def model(text: bytes) -> dict[bytes, bytes] | int:
    """What the text sets, or the number of its first bad line."""
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    result: dict[bytes, bytes] = {}
    at = 0
    while at < len(lines):
        line, opened = lines[at], at + 1
        cut = next((i for i, c in enumerate(line.decode("latin-1")) if c not in NAME_REST), len(line))
        name, rest = line[:cut], line[cut:]
        at += 1
        if not name or name.decode()[0] not in NAME_START:
            return opened
        if rest.startswith(b"="):
            value = rest[1:]
        elif rest.startswith(b"<<") and len(rest) > 2:
            if rest[2:] not in lines[at:]:
                return opened
            end = lines.index(rest[2:], at)
            value, at = b"\n".join(lines[at:end]), end + 1
        else:
            return opened
        if name.startswith(b"OVERSPILL_") or b"\0" in value:
            return opened
        result[name] = value
    return result


def pieces() -> st.SearchStrategy[bytes]:
    tokens = [
        b"A",
        b"B1",
        b"_c",
        b"=",
        b"<<",
        b"<",
        b"E",
        b"E",
        b"\n",
        b"\n",
        b"\n",
        b" ",
        b"9",
        b"\xff",
        b"OVERSPILL_A",
    ]
    return st.lists(st.sampled_from(tokens), max_size=24).map(b"".join) | st.binary(max_size=40)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=pieces())
def test_any_env_out_is_read_as_the_model_reads_it(
    tmp_path_factory: pytest.TempPathFactory, attempt: AttemptDir, text: bytes
) -> None:
    fresh = AttemptDir(tmp_path_factory.mktemp("env") / "attempt", attempt.binary)
    fresh.step(1, ["true"], next=2)
    fresh.step(2, ["env", "-0"], if_="always")
    fresh.path(1, "env.out").write_bytes(text)
    fresh.run(1, 2)
    expected = model(text)
    if isinstance(expected, int):
        assert f"env.out line {expected}:" in fresh.exit(1)["message"]
        expected = {}
    else:
        assert fresh.exit(1)["verdict"] == "ok"
    own = {b"PATH", b"OVERSPILL_ENV", b"OVERSPILL_OUTPUT", b"OVERSPILL_SUMMARY"}
    assert {name: value for name, value in environment_of(fresh, 2).items() if name not in own} == expected
