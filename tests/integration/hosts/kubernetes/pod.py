"""A pod of the chart in a Docker engine: what the kubelet would make of its specification, as far as the chart uses it.

Volumes are folders of this machine that everybody may write to, as an emptyDir is. Containers that run before the
others run in their order, and each must end well. Then the host's container runs with its variables, mounts, user,
capabilities, limits and read-only root. Its probes are asked from outside, and its end is the kubelet's: the command of
``preStop``, then SIGTERM, then the grace period.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.compose.docker import Docker
from tests.integration.hosts.kubernetes.helm import Object, environment
from tests.support.waiting import wait_until

PORT = 8080  # that a host listens on in its pod
LONGEST_START = 180.0  # s


@dataclass
class Pod:
    """One pod.

    Attributes:
        name: of its containers, with the container's behind.
        spec: a pod's specification, as Helm renders it.
        folder: for its volumes.
        port: of this machine, which its port 8080 is published on.
        given: content by file or variable of each Secret and ConfigMap, by its name.
        beside: folders of this machine that the containers before the host see at the same path.
    """

    docker: Docker
    name: str
    spec: Object
    folder: Path
    port: int
    given: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    beside: tuple[Path, ...] = ()

    @property
    def url(self) -> str:
        """Where its host is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> Object:
        """The container of the host."""
        (found,) = (container for container in self.spec["containers"] if container["name"] == "host")
        return dict(found)

    def start(self) -> None:
        """Run it, and wait until its startup probe is answered."""
        self.run()
        wait_until(lambda: self.answers("startupProbe"), timeout=LONGEST_START)

    def run(self) -> None:
        """Run what comes first, then the host."""
        for volume in self.spec["volumes"]:
            folder = self.folder / volume["name"]
            folder.mkdir(parents=True)
            for name, content in self._content(volume).items():
                (folder / name).write_text(content)
            folder.chmod(0o777)  # as the kubelet makes an emptyDir, without a sticky bit
        for container in self.spec.get("initContainers", []):
            sees = [option for path in self.beside for option in ("--volume", f"{path}:{path}:ro")]
            self.docker.check(*self._run(container, "--rm", *sees), timeout=LONGEST_START)
        self.docker.check(*self._run(self.host, "--detach", "--publish", f"127.0.0.1:{self.port}:{PORT}"))

    def answers(self, probe: str) -> bool:
        """Tell whether a probe of the host is answered as the kubelet wants it."""
        path = self.host[probe]["httpGet"]["path"]
        try:
            return 200 <= httpx.get(f"{self.url}{path}", timeout=5, trust_env=False).status_code < 400
        except httpx.TransportError:
            return False

    def end(self, drains: bool = True) -> int:
        """End it as the kubelet does, and return the host's exit code.

        Args:
            drains: whether ``preStop`` runs.
        """
        grace, begun = self.spec["terminationGracePeriodSeconds"], time.monotonic()
        if drains:
            command = self.host["lifecycle"]["preStop"]["exec"]["command"]
            self.docker.check("exec", self._of("host"), *command, timeout=grace)
        left = max(2, int(grace - (time.monotonic() - begun)))
        self.docker.check("stop", "-t", str(left), self._of("host"), timeout=grace + 60)
        return int(self.docker.check("inspect", "--format", "{{.State.ExitCode}}", self._of("host")))

    def remove(self) -> None:
        """Remove its container and what it wrote, whoever owns that."""
        self.docker.run("rm", "--force", self._of("host"))
        if self.folder.exists():
            inside = ("--user", "0", "--entrypoint", "sh", "--volume", f"{self.folder}:/left", self.host["image"])
            self.docker.run("run", "--rm", *inside, "-c", "rm -rf /left/*")

    def log(self) -> str:
        """What its host printed."""
        done = self.docker.run("logs", "--tail", "60", self._of("host"))
        return done.stdout + done.stderr

    def _of(self, container: str) -> str:
        return f"{self.name}-{container}"

    def _content(self, volume: Object) -> Mapping[str, str]:
        """Return the files of a Secret's or ConfigMap's volume; none for another one."""
        name = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name", "")
        return self.given.get(name, {})

    def _variables(self, container: Object) -> dict[str, str]:
        """Return the variables of a container, those of a Secret among them."""
        secrets = [source["secretRef"]["name"] for source in container.get("envFrom", [])]
        return {name: value for secret in secrets for name, value in self.given[secret].items()} | environment(
            container
        )

    def _run(self, container: Object, *options: str) -> list[str]:
        """Return the arguments of ``docker run`` for a container."""
        security, user = container["securityContext"], self.spec["securityContext"]
        limits = container["resources"]["limits"]
        cores = min(cores_of(limits["cpu"]), float(len(os.sched_getaffinity(0))))
        command = [*container["command"], *container.get("args", [])]
        return [
            *("run", "--name", self._of(container["name"]), *options),
            *("--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--group-add", str(user["fsGroup"])),
            *(["--read-only"] if security["readOnlyRootFilesystem"] else []),
            *(f"--cap-drop={name}" for name in security["capabilities"]["drop"]),
            *([] if security["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
            *(f"--cpus={cores}", f"--memory={limits['memory'].removesuffix('i').lower()}"),
            *(f"--env={name}={value}" for name, value in self._variables(container).items()),
            *(f"--volume={self._mount(mount)}" for mount in container["volumeMounts"]),
            *("--entrypoint", command[0], container["image"], *command[1:]),
        ]

    def _mount(self, mount: Mapping[str, Any]) -> str:
        source = self.folder / mount["name"] / mount.get("subPath", "")
        return f"{source}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}"


def cores_of(quantity: str) -> float:
    """Return the cores of a quantity such as 500m."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
