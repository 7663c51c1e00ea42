"""Trainings as Kubernetes Jobs, made from a manifest (Kubernetes API reference, batch/v1 Job)."""

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from monitoring.retraining.launch.submissions import Api, Submissions

LINES = 2000  # at the end of a pod's log
KEPT = 86_400  # s for which Kubernetes keeps a Job that has ended, unless the manifest says otherwise


class KubernetesLauncher(Submissions):
    """Submits trainings as Jobs, whose pods see the run folder and the model store at the paths of the monitor.

    Args:
        api: of the API server.
        namespace: of the Jobs.
        manifest: a Job; its first container runs the training. Name, command, labels and variables are filled in.
        variables: of the training's environment.
    """

    def __init__(self, api: Api, namespace: str, manifest: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self._api, self._manifest, self._variables = api, manifest, variables
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    def submit(self, name: str, arguments: Sequence[str]) -> None:
        """Submit ``marloop`` with these arguments under a name."""
        job: dict[str, Any] = copy.deepcopy(dict(self._manifest))
        metadata, specification = job.setdefault("metadata", {}), job["spec"]
        metadata["name"] = name
        metadata.pop("generateName", None)
        metadata["labels"] = {**metadata.get("labels", {}), "app.kubernetes.io/managed-by": "marloop"}
        specification["backoffLimit"] = 0  # the monitor tries again, and counts
        specification.setdefault("ttlSecondsAfterFinished", KEPT)
        pod = specification["template"]["spec"]
        pod["restartPolicy"] = "Never"
        container = pod["containers"][0]
        container["command"] = ["marloop", *arguments]
        container.pop("args", None)
        own = [{"name": variable, "value": value} for variable, value in self._variables.items()]
        given = [entry for entry in container.get("env", []) if entry["name"] not in self._variables]
        container["env"] = [*given, *own]
        self._api.call("POST", self._jobs, json=job)

    def running_since(self, name: str) -> float | None:
        """Return the time at which a training was submitted, s since the epoch; None if it does not run."""
        job = self._api.document(f"{self._jobs}/{name}")
        if job is None or _has_ended(job):
            return None
        return datetime.fromisoformat(job["metadata"]["creationTimestamp"]).timestamp()

    def stop(self, name: str) -> None:
        """Ask a training to end; its Job goes once its pod has."""
        self._api.call("DELETE", f"{self._jobs}/{name}", json={"propagationPolicy": "Foreground"})

    def printed(self, name: str) -> str:
        """Return what a training has printed, or why it has not begun."""
        pods = (self._api.document(f"{self._pods}?labelSelector=job-name%3D{name}") or {}).get("items", [])
        if not pods:
            return ""
        if waiting := _waiting(pods[-1]):
            return waiting
        response = self._api.call("GET", f"{self._pods}/{pods[-1]['metadata']['name']}/log?tailLines={LINES}")
        return response.text if response else ""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a Job.

    Raises:
        ValueError: it is no Job with a container; names the file.
    """
    try:
        manifest = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}, the manifest of trainings, cannot be read: {error}") from error
    try:
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        whole = (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "Job") and bool(container["image"])
    except (KeyError, IndexError, TypeError):
        whole = False
    if not whole:
        raise ValueError(
            f"{path}, the manifest of trainings, must be a batch/v1 Job whose first container has an image"
        )
    result: dict[str, Any] = manifest
    return result


def _has_ended(job: Mapping[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def _waiting(pod: Mapping[str, Any]) -> str:
    """Return why a pod's container has not begun; empty where it has."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses") or []:
        if waiting := container.get("state", {}).get("waiting"):
            return f"the pod waits: {waiting.get('reason', 'unknown')} {waiting.get('message', '')}".strip()
    for condition in status.get("conditions") or [] if status.get("phase") == "Pending" else []:
        if condition.get("status") == "False":
            return f"the pod waits: {condition.get('reason', 'unknown')} {condition.get('message', '')}".strip()
    return ""
