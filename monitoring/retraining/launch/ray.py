"""Trainings as Ray jobs, by the REST API of the cluster's dashboard (Ray documentation, "Ray Jobs REST API")."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from monitoring.retraining.launch.submissions import SUBMITTING, Api, Submissions

ENDED = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})


class RayLauncher(Submissions):
    """Submits trainings to a Ray cluster, whose machines see the run folder, the model store and this environment.

    Args:
        api: of the dashboard.
        variables: of the training's environment; no secrets, since the dashboard shows them.
        cpus: cores that Ray keeps for a training.
    """

    def __init__(self, api: Api, variables: Mapping[str, str], cpus: float) -> None:
        self._api, self._variables, self._cpus = api, variables, cpus

    def submit(self, name: str, arguments: Sequence[str]) -> None:
        """Submit ``marloop`` with these arguments under a name."""
        content = {
            "submission_id": name,
            "entrypoint": shlex.join([sys.executable, "-m", "training", *arguments]),
            "entrypoint_num_cpus": self._cpus,
            "runtime_env": {"env_vars": dict(self._variables)},
            "metadata": {"program": "marloop"},
        }
        self._api.call("POST", "/api/jobs/", json=content, timeout=SUBMITTING)

    def running_since(self, name: str) -> float | None:
        """Return the time at which a training was submitted, s since the epoch; None if it does not run."""
        details = self._details(name)
        if details is None or details.get("status") in ENDED:
            return None
        submitted = details.get("start_time")  # ms
        return float(submitted) / 1000 if submitted else time.time()

    def stop(self, name: str) -> None:
        """Ask a training to end: SIGTERM, then SIGKILL after three seconds, as Ray does it."""
        self._api.call("POST", f"/api/jobs/{name}/stop")

    def printed(self, name: str) -> str:
        """Return what a training has printed, or why it has not begun."""
        logs = self._api.document(f"/api/jobs/{name}/logs") or {}
        return str(logs.get("logs") or (self._details(name) or {}).get("message") or "")

    def _details(self, name: str) -> dict[str, Any] | None:
        return self._api.document(f"/api/jobs/{name}")
