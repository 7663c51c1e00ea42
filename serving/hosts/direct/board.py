"""State that the workers of this host share through files. Twice a second each writes into one that it lives, and what
it serves. Another file names the versions to serve beside the champions.

No stranger can reach a file as he can reach a port, and a file stays right when a process is started anew.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

from serving import documents

BEAT = 0.5  # s between two beats of a worker
SILENT = 1.5  # s after which a worker counts as hung
GONE = 10.0  # s after which a silent worker of another container counts as gone
BESIDE = "beside.json"
DRAINING = "draining"  # is there while clients are to go elsewhere


class Beat(msgspec.Struct, frozen=True):
    """State of a worker, as it reports it.

    Attributes:
        time: when it was written, s since the machine's start.
        served: versions by model.
        defaults: the champion's number by model.
        faults: why a model is not as the registry says, by model.
        looked: when its last look at the registry began, s since the machine's start.
        only: the language model that it is for; empty for all others.
        elsewhere: names of the language models, whose state other workers report.
        loading: those of them that are new, and whose processes need not answer yet.
        machine: names the container in which ``pid`` is this process, as a container has its own numbers.
    """

    pid: int
    time: float
    served: Mapping[str, list[str]]
    defaults: Mapping[str, str]
    faults: Mapping[str, str]
    looked: float = 0.0
    only: str = ""
    elsewhere: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    machine: str = ""

    def says_of(self, name: str) -> bool:
        """Tell whether this beat reports the served versions of a model."""
        return self.only == name if self.only or name in self.elsewhere else True


class Board:
    """The folder of these files, below that of the run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def beat(
        self,
        served: Mapping[str, list[str]],
        defaults: Mapping[str, str],
        faults: Mapping[str, str],
        **more: Any,
    ) -> None:
        """Report that this process lives, and what it serves.

        Args:
            more: further attributes of ``Beat``.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        beat = Beat(os.getpid(), time.monotonic(), served, defaults, faults, machine=_machine(), **more)
        path = self._folder / f"{beat.pid}.worker"
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(beat))
        draft.replace(path)

    def leave(self) -> None:
        """Report that this process ends."""
        (self._folder / f"{os.getpid()}.worker").unlink(missing_ok=True)

    def workers(self) -> list[Beat]:
        """Return the last beat of each worker that lives, and remove the files of the others."""
        beats = []
        for path in sorted(self._folder.glob("*.worker")):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                beat = msgspec.json.decode(path.read_bytes(), type=Beat)
                if _exists(beat):
                    beats.append(beat)
                else:
                    path.unlink(missing_ok=True)
        return beats

    def faults(self, count: int) -> dict[str, str]:
        """Return the faults by model, or by worker where one hangs or is missing; empty where all is well.

        Args:
            count: workers that there should be.
        """
        beats, now = self.workers(), time.monotonic()
        faults = {name: fault for beat in beats for name, fault in beat.faults.items()}
        if self.draining():
            faults["host"] = "it is about to end: ask another one"
        faults |= {
            beat.only or f"worker {beat.pid}": f"has not been heard of for {now - beat.time:.1f} s"
            for beat in beats
            if now - beat.time > SILENT
        }
        workers = [beat for beat in beats if not beat.only]
        if len(workers) < count:
            faults["workers"] = f"{len(workers)} of {count} live"
        absent = {name for beat in workers for name in beat.elsewhere} - {beat.only for beat in beats}
        for name in absent - {name for beat in workers for name in beat.loading}:
            faults[name] = "its process does not live"
        return faults

    def language(self) -> dict[str, list[str]]:
        """Return the versions of each language model that its process serves."""
        return {beat.only: beat.served.get(beat.only, []) for beat in self.workers() if beat.only}

    def lives(self) -> bool:
        """Tell whether a worker has beaten within ``SILENT``."""
        return any(time.monotonic() - beat.time <= SILENT for beat in self.workers())

    def drain(self) -> None:
        """Ask the workers to send their clients elsewhere, as this host is about to end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / DRAINING).touch()

    def draining(self) -> bool:
        """Tell whether clients are to go elsewhere."""
        return (self._folder / DRAINING).exists()

    def beside(self) -> list[tuple[str, str]]:
        """Return the models and versions that are to be served beside the champions."""
        try:
            return msgspec.json.decode((self._folder / BESIDE).read_bytes(), type=list[tuple[str, str]])
        except (OSError, msgspec.DecodeError):
            return []

    def ask_beside(self, versions: list[tuple[str, str]]) -> None:
        """Ask the workers to serve these versions beside the champions."""
        self._folder.mkdir(parents=True, exist_ok=True)
        documents.write_json(self._folder / BESIDE, versions, list[tuple[str, str]])


def _machine() -> str:
    """Return a name of this process's namespace of process ids; empty where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _exists(beat: Beat) -> bool:
    """Return whether a worker's process lives, which only those in its container can look up."""
    if beat.machine == _machine():
        return psutil.pid_exists(beat.pid)
    return time.monotonic() - beat.time < GONE
