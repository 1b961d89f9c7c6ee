"""What the hub or Kubernetes said when a pod was to be made, as the attempt's end."""

import pytest

from runner.agent.telling import ClaimedBefore
from runner.controller.making import NoPodGrant
from runner.controller.refusals import refusal
from runner.protocol.layout import Unrunnable
from shared.errors import NotFound, OverspillError
from shared.kube import KubeRefused, NamespaceGoes
from shared.lifecycle import Reason

QUOTA = 'pods "j-1" is forbidden: exceeded quota: overspill-quota, requested: pods=1, used: pods=9, limited: pods=9'
GOES = 'pods "j-1" is forbidden: unable to create new content in namespace n because it is being terminated'
POLICY = 'admission webhook "policy" denied the request: images come from our registry'


def refused(why: str, status: int, reason: str) -> KubeRefused:
    return KubeRefused(what="pods", why=why, status=status, reason=reason)


@pytest.mark.parametrize(
    ("error", "outcome", "reason", "words"),
    [
        (refused(QUOTA, 403, "Forbidden"), "error", Reason.UNSCHEDULABLE, "overspill-quota"),
        (
            NamespaceGoes(what="pods", why=GOES, status=403, reason="Forbidden"),
            "error",
            Reason.UNSCHEDULABLE,
            "namespace there is being deleted",
        ),
        (refused(POLICY, 403, "Forbidden"), "error", Reason.REFUSED, "our registry"),
        (refused("spec.containers[0].image: Required", 422, "Invalid"), "error", Reason.SETUP_FAILED, "image"),
        (NotFound(what="namespace", name="n"), "error", Reason.SETUP_FAILED, "n"),
        (Unrunnable(step=2, why="its shell is empty"), "failed", Reason.SETUP_FAILED, "its shell is empty"),
        (ClaimedBefore(job="j", epoch=1), "error", Reason.RUNNER_LOST, "accepted before"),
        (NoPodGrant(job="j"), "error", Reason.REFUSED, "update the hub"),
    ],
    ids=["quota", "namespace goes", "admission", "invalid", "namespace", "spec", "claimed before", "old hub"],
)
def test_why_there_is_no_pod_is_told_with_whose_fault_it_is(
    error: OverspillError, outcome: str, reason: Reason, words: str
) -> None:
    ending = refusal(error)
    assert (ending.outcome, ending.reason) == (outcome, reason)
    assert words in ending.message
    assert len(ending.message) <= 500
