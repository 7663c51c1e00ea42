"""Docker as the tests use it: the program that has Compose, an engine that answers, images that can be had."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from serving.settings import ROOT

LONGEST_BUILD = 3600.0  # s; the first one fetches torch


class NoDockerError(Exception):
    """There is no Compose, no engine or no base image; the message says which, and why."""


@dataclass(frozen=True)
class Docker:
    """A ``docker`` program.

    Attributes:
        program: its path.
        environ: of its processes.
    """

    program: str
    environ: Mapping[str, str]

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one command, whatever it ends with."""
        command = [self.program, *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=timeout)

    def check(self, *arguments: str, timeout: float = 120) -> str:
        """Run one command and return what it prints.

        Raises:
            AssertionError: it fails; with its words.
        """
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def require_engine(self) -> None:
        """Check that an engine answers.

        Raises:
            NoDockerError: none does.
        """
        done = self.run("version", "--format", "{{.Server.Version}}")
        if done.returncode:
            raise NoDockerError(f"no Docker engine answers: {done.stderr.strip()}")

    def has_image(self, tag: str) -> bool:
        """Whether an image is here or can be pulled."""
        return (
            self.run("image", "inspect", tag).returncode == 0
            or self.run("pull", "--quiet", tag, timeout=LONGEST_BUILD).returncode == 0
        )

    def is_stand_in(self, tag: str) -> bool:
        """Whether an image that is here was made by ``stand-ins.yml``, maybe of other files than today's."""
        return "marloop.stand-in" in self.run("image", "inspect", "--format", "{{json .Config.Labels}}", tag).stdout


def find_docker(environ: Mapping[str, str]) -> Docker:
    """The program that ``DOCKER`` names, else the first one on the PATH that has Compose.

    Raises:
        NoDockerError: there is none.
    """
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    candidates = [environ["DOCKER"]] if environ.get("DOCKER") else [f"{folder}/docker" for folder in folders]
    for program in candidates:
        if shutil.which(program) and Docker(program, environ).run("compose", "version").returncode == 0:
            return Docker(program, environ)
    raise NoDockerError(f"no docker with `docker compose` among {', '.join(candidates)}; DOCKER can name one")
