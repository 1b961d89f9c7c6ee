"""Loaded by the schemathesis process: most requests name jobs that exist, and no stream stays open for ever."""

import os
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import CoveragePhaseData, CoverageScenario

JOBS = os.environ["OVERSPILL_TEST_JOBS"].split()
DOOMED = os.environ["OVERSPILL_TEST_DOOMED"].split()
ARTIFACT = "Out put"
OURS, NOBODYS = "c1", "c9"
OUR_KEY = os.environ["OVERSPILL_TEST_KEY"]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    del context, kwargs
    if _lacks_a_header(case):
        return
    parameters = case.path_parameters or {}
    known = case.operation.path.startswith("/v1/jobs/{job}") and _nth(case, 3)
    if known and case.method == "DELETE":
        parameters["job"] = DOOMED[len(str(case.query)) % len(DOOMED)]
    elif known:
        parameters["job"] = JOBS[len(str(case.query)) % len(JOBS)]
        if "name" in parameters:
            parameters["name"] = ARTIFACT
    if parameters.get("cluster") == OURS:  # whose machine goes on running the test's jobs: not to be cordoned
        parameters["cluster"] = NOBODYS
    if parameters.get("key") == OUR_KEY:  # revoked, the rest would be refused
        parameters["key"] = NOBODYS
    if parameters and parameters.get("job") not in JOBS:
        # A job that runs, or waits for ever, would be followed for as long.
        case.headers["Accept"] = "application/json"
        if "follow" in (case.query or {}):
            case.query["follow"] = "false"


def _lacks_a_header(case: Any) -> bool:
    """Such a case is sent as it is: an edited one counts as whole again and gets the header back."""
    tried = case.meta.phase.data if case.meta else None
    return isinstance(tried, CoveragePhaseData) and (
        tried.scenario is CoverageScenario.MISSING_PARAMETER and tried.parameter_location is ParameterLocation.HEADER
    )


def _nth(case: Any, every: int) -> bool:
    """All but one in so many; and never where the path itself is what is tried."""
    return "/" not in str(case.path_parameters.get("job", "")) and sum(case.id.encode()) % every != 0
