"""Pods of a group of the chart, for tests in a Docker engine, and the image that they run."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.compose.docker import LONGEST_BUILD, Docker, NoDockerError, find_docker
from tests.integration.hosts.kubernetes.helm import named, of_kind, rendered
from tests.integration.hosts.kubernetes.pod import Pod

logger = logging.getLogger(__name__)
NAME = "marloop-kubernetes-test"
REPOSITORY, TAG = "marloop", "kubernetes-test-direct"
BUILD = {
    "MARLOOP_IMAGE": "marloop:kubernetes-test",
    "MARLOOP_HOST": "direct",
    "EXTRAS": "s3 signing",
    "COMPOSE_ENV_FILES": os.devnull,
}


def engine() -> Docker:
    """An engine with the direct host's image of this checkout; skips where none can be had."""
    environ = {**os.environ, **BUILD}
    try:
        docker = find_docker(environ)
        docker.require_engine()
        base = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
        if not docker.has_image(base):
            raise NoDockerError(f"the base image {base} is not here and cannot be pulled")
    except NoDockerError as error:
        pytest.skip(str(error))
    docker.check("compose", "build", "torchserve", timeout=LONGEST_BUILD)
    return docker


class Deployment:
    """Makes pods of a group of the chart.

    Args:
        folder: of their volumes.
    """

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker, self._folder = docker, folder
        self.pods: list[Pod] = []

    def pod(
        self,
        values: str,
        group: str,
        port: int,
        *changes: str,
        secrets: Mapping[str, Mapping[str, str]],
        beside: tuple[Path, ...] = (),
    ) -> Pod:
        """Make a pod, which does not run yet.

        Args:
            values: a file of the chart's values.
            group: name of the group in it.
            port: of this machine.
            changes: of these values.
            secrets: content by file or variable, by the name of a Secret.
            beside: folders of this machine that the containers before the host see.
        """
        objects = rendered(values, f"image.repository={REPOSITORY}", f"image.tag={TAG}", "drainSeconds=3", *changes)
        spec = named(objects, "Deployment", f"marloop-{group}")["spec"]["template"]["spec"]
        maps = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
        number = len(self.pods) + 1
        name, folder = f"{NAME}-{os.getpid()}-{number}", self._folder / str(number)
        self.pods.append(Pod(self._docker, name, spec, folder, port, {**maps, **secrets}, beside))
        return self.pods[-1]


def deploying(docker: Docker, folder: Path) -> Iterator[Deployment]:
    """A deployment whose pods go with the test."""
    made = Deployment(docker, folder)
    yield made
    for pod in made.pods:
        logger.info("%s", pod.log())
        pod.remove()


def versions(pod: Pod, model: str) -> list[str]:
    """The versions of a model that a pod serves; none where it does not answer."""
    try:
        response = httpx.get(f"{pod.url}/v2/models/{model}", timeout=5, trust_env=False)
    except httpx.TransportError:
        return []
    return list(response.json()["versions"]) if response.status_code == 200 else []
