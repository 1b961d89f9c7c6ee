"""Why an attempt has no pod: what the hub or Kubernetes said when it was to be made. Pure."""

from runner.agent.telling import ClaimedBefore
from runner.controller.policy import Ending
from runner.protocol.layout import Unrunnable
from shared.errors import NotFound, OverspillError
from shared.kube import KubeRefused
from shared.lifecycle import Reason

_QUOTA = "exceeded quota"


def refusal(error: OverspillError) -> Ending:
    """How the attempt ends for it."""
    why = " ".join(str(error).split())[:500]
    match error:
        case Unrunnable():
            return Ending("failed", Reason.SETUP_FAILED, why)
        case ClaimedBefore():
            # By a controller of this cluster, since the epoch is ordered nowhere else; its pod was seen to its end.
            return Ending("error", Reason.RUNNER_LOST, why)
        case KubeRefused() if error.reason == "Forbidden" and _QUOTA in why:
            return Ending("error", Reason.UNSCHEDULABLE, f"the tenant's quota in the cluster is used up: {why}"[:500])
        case KubeRefused() if error.reason == "Forbidden":
            return Ending("error", Reason.REFUSED, f"the cluster does not admit the pod: {why}"[:500])
        case KubeRefused() | NotFound():
            return Ending("error", Reason.SETUP_FAILED, why)
        case _:
            return Ending("error", Reason.REFUSED, why)
