"""`python -m deploy.grafana`: write overspill.json beside this file."""

import json
from pathlib import Path

from deploy.grafana.dashboards import dashboard

FILE = Path(__file__).parent / "overspill.json"


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
