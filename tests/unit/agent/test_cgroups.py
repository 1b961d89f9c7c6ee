"""Groups of attempts, on a directory that stands for the kernel's."""

from pathlib import Path

from runner.agent.cgroups import CgroupTree, NoCgroups


def test_each_step_has_a_group_below_the_limited_one_of_its_attempt(tmp_path: Path) -> None:
    roots = (tmp_path / "memory", tmp_path / "cpuacct")
    for root in roots:
        (root / "a-1").mkdir(parents=True)
    (roots[0] / "a-1" / "memory.limit_in_bytes").touch()
    tree = CgroupTree(roots, "memory.limit_in_bytes")
    assert tree.prepare("a-1", [1, 2], 123) == {
        1: (roots[0] / "a-1" / "001", roots[1] / "a-1" / "001"),
        2: (roots[0] / "a-1" / "002", roots[1] / "a-1" / "002"),
    }
    assert (roots[0] / "a-1" / "memory.limit_in_bytes").read_text() == "123"
    assert tree.names() == ["a-1"]
    (roots[0] / "a-1" / "memory.limit_in_bytes").unlink()
    tree.remove("a-1")
    assert tree.names() == []


def test_where_no_group_can_be_made_steps_run_without(tmp_path: Path) -> None:
    assert CgroupTree((tmp_path / "absent",), "memory.max").prepare("a-1", [1], 1) == {}
    assert NoCgroups().prepare("a-1", [1], 1) == {}
