"""Why an attempt has no pod: what the hub or Kubernetes said when it was to be made. Pure."""

from runner.agent.telling import ClaimedBefore
from runner.controller.policy import Ending
from runner.protocol.layout import Unrunnable
from shared.errors import NotFound, OverspillError
from shared.kube import KubeRefused, NamespaceGoes
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
        case KubeRefused():
            return _refused(error, why)
        case NotFound():
            return Ending("error", Reason.SETUP_FAILED, why)
        case _:
            return Ending("error", Reason.REFUSED, why)


def _refused(error: KubeRefused, why: str) -> Ending:
    if isinstance(error, NamespaceGoes):
        return Ending("error", Reason.UNSCHEDULABLE, f"the tenant's namespace there is being deleted: {why}"[:500])
    if error.reason != "Forbidden":
        return Ending("error", Reason.SETUP_FAILED, why)
    if _QUOTA in why:
        return Ending("error", Reason.UNSCHEDULABLE, f"the tenant's quota in the cluster is used up: {why}"[:500])
    return Ending("error", Reason.REFUSED, f"the cluster does not admit the pod: {why}"[:500])
