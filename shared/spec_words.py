"""The spec's closed vocabularies, shared with facts."""

from typing import Literal

OnLost = Literal["rerun", "rerun-fenced", "fail"]
StepIf = Literal["success()", "failure()", "always()"]
ArtifactWhen = Literal["success", "failure", "always"]
