"""What a person gets who mistypes a spec: one line that names the place and the remedy."""

import pytest

from shared.spec import GitSource, MachineSize, TreeSource
from shared.spec_reading import SpecRefused, read_spec

STEPS = "steps: [{run: make}]\n"
TREE = "a" * 64


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("steps:\n- run: a\n  comand: b", "steps[0].comand: unknown key; did you mean `command`?"),
        ("stepz: 1", "stepz: unknown key; did you mean `steps`?"),
        (STEPS + "runs-no: x", "runs-no: unknown key; did you mean `runs-on`?"),
        (STEPS + "machineType: {cpuu: 2, memory: 1Gi}", "machineType.cpuu: unknown key; did you mean `cpu`?"),
        (STEPS + "machineType: {cpu: true, memory: 1Gi}", "machineType.cpu: give cores"),
        (STEPS + "machineType: {cpu: many, memory: 1Gi}", "machineType.cpu: give cores"),
        (STEPS + "machineType: {cpu: 1, memory: lots}", "machineType.memory: give bytes or a size"),
        (STEPS + "artifacts: [{name: a, paths: [x]}, {name: a, paths: [y]}]", "two artifacts are named 'a'"),
        ('steps: [{run: "a\\0b"}]', "steps[0].run: holds a NUL byte"),
        ('steps: [{command: ["a\\0b"]}]', "steps[0].command: holds a NUL byte"),
        ('steps: [{run: a, env: {A: "\\0"}}]', "steps[0].env: A holds a NUL byte"),
        ("steps: [{run: a, background: true, retry: 1}, {run: b}]", "steps[0]: a background step can't have `retry`"),
        ("steps: [{run: a, 1: b}]", "the spec is no YAML: line 1, column 18: key 1 must be text; quote it"),
        ('name: "a\\e[31mb"\n' + STEPS, "name: holds a control character"),
        ('steps: [{run: a, name: "a\\nb"}]', "steps[0].name: holds a control character"),
        ('steps: [{run: a, name: "a\\u202eb"}]', "steps[0].name: holds a control character"),
        ("x" * 300_000, "the spec has 300000 bytes, the limit is 262144"),
        ("a: [", "the spec is no YAML: line 1"),
        (STEPS + "machineType: huge", "machineType: there is no machine type 'huge'; take one of nano, small"),
        (STEPS + "source: {git: x}", "source.git: give a URL such as"),
        (STEPS + "source: {got: x}", "source.got: unknown key; did you mean `git`?"),
        (STEPS + "source: {tree: x}", "source.tree: is no tree; upload one"),
        (STEPS + "source: {git: 'https://h/p', dept: 3}", "source.dept: unknown key; did you mean `depth`?"),
        (STEPS + "source: some", "source: Input should be 'none'"),
        ("steps: [{}]", "steps[0]: give either `run`"),
        ("steps: [{run: a, command: [b]}]", "steps[0]: give either `run`"),
        ("steps: []", "steps: List should have at least 1 item"),
        ("steps: [{run: a, timeout: 5x}]", "steps[0].timeout: give seconds or a duration"),
        ("steps: [{run: a, ready: b}]", "steps[0]: `ready` belongs to a step with `background: true`"),
        ("steps: [{run: a, background: true}]", "every step is a background step"),
        ("steps: [{run: a, working-directory: ../x}]", "steps[0].working-directory: leaves the workspace"),
        ('steps: [{run: a, working-directory: "a\\nb"}]', "steps[0].working-directory: holds a line break"),
        ('steps: [{run: a, shell: "bash \'oops"}]', "steps[0].shell: is no command line; give a program"),
        ("steps: [{run: a, env: {OVERSPILL_X: y}}]", "steps[0].env: OVERSPILL_X: names beginning with"),
        ("steps: [{run: a, env: {'a b': y}}]", "steps[0].env: 'a b' is no environment name"),
        (STEPS + "artifacts: [{name: a, paths: [/etc]}]", "artifacts[0].paths: '/etc' leaves the workspace"),
        (STEPS + "on-lost: nope", "on-lost: Input should be 'rerun', 'rerun-fenced' or 'fail'"),
        ("a: b: c", "the spec is no YAML: line 1, column 5"),
        ("a: &x [1]\nb: *x", "the spec is no YAML: line 2, column 4: aliases"),
        ("steps: [{run: a}]\nsteps: []", "the spec is no YAML: line 2, column 1: key 'steps' stands here twice"),
        ("[]", "the spec must be a mapping"),
        ("", "the spec must be a mapping"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(text: str, line: str) -> None:
    with pytest.raises(SpecRefused) as refused:
        read_spec(text)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_yaml_reads_words_as_words() -> None:
    spec = read_spec("steps: [{run: a, env: {COUNTRY: no, ON: on, V: 010, N: 7, B: true, T: 12:30}}]")
    assert spec.steps[0].env == {"COUNTRY": "no", "ON": "on", "V": "010", "N": "7", "B": "true", "T": "12:30"}


def test_sizes_and_durations_read_as_people_write_them() -> None:
    spec = read_spec(STEPS + "machineType: {cpu: 1500m, memory: 1.5Gi, disk: 10G}\ntimeout: 1h30m")
    assert isinstance(spec.machine_type, MachineSize)
    assert (spec.needs.cpu_millis, spec.needs.memory_bytes, spec.needs.disk_bytes) == (1500, 3 * 2**29, 10**10)
    assert spec.timeout == 5400


def test_numbers_and_texts_of_sizes_mean_the_same() -> None:
    spec = read_spec(STEPS + "machineType: {cpu: 0.5, memory: 1073741824}\ntimeout: '90'")
    assert (spec.needs.cpu_millis, spec.needs.memory_bytes, spec.timeout) == (500, 2**30, 90)
    assert read_spec(STEPS + "machineType: {cpu: '2', memory: 1Gi}").needs.cpu_millis == 2000


def test_a_step_without_a_name_is_called_by_what_it_runs() -> None:
    spec = read_spec(
        "steps: [{run: '\n'}, {command: [make, all]}, {run: "
        + "x" * 100
        + '}, {name: n, run: a}, {run: "a\\tb\\e[1m"}]'
    )
    assert spec.step_names() == ["(empty)", "make all", "x" * 77 + "…", "n", "a b [1m"]


def test_a_name_may_be_any_text() -> None:
    for name in ("Ünïcödé", "构建", "بناء", "👩‍🚀 launch", "می‌خواهم"):
        assert read_spec(f"name: {name}\n{STEPS}").name == name


def test_sources_of_every_kind_are_read() -> None:
    assert read_spec(STEPS).source == "none"
    assert read_spec(STEPS + f"source: {{tree: {TREE}}}").source == TreeSource(tree=TREE)
    assert read_spec(STEPS + "source: {git: 'git@h.org:p.git', ref: v1}").source == GitSource(
        git="git@h.org:p.git", ref="v1"
    )


def test_specs_that_mean_the_same_have_the_same_hash() -> None:
    brief, long = (
        read_spec(STEPS),
        read_spec('{"steps": [{"run": "make", "retry": 0}], "name": "build", "priority": 0}'),
    )
    assert brief.content_hash() == long.content_hash()
    assert brief.content_hash() != read_spec("steps: [{run: make all}]").content_hash()


def test_the_stored_form_reads_back_as_itself() -> None:
    spec = read_spec(STEPS + f"source: {{tree: {TREE}}}\nmachineType: {{cpu: 1500m, memory: 1Gi}}\nlabels: {{a: b}}")
    assert read_spec(spec.canonical()) == spec
