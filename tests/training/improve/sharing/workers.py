"""Workers of one search, or of one ablation, as on machines of their own; the first of them dies at its work.

The processes are forked from one that has imported everything.
"""

import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from torch import Tensor

from serving.settings import Folders
from tests.support.training.quadrants import Quadrants
from training.improve import ablate, search
from training.improve.budget import Budget
from training.improve.sharing import study
from training.recipe import Hyperparameters

TRIALS, SEEDS = 12, 2
LAST = 3  # step of the training in which a process is killed; the smallest training has more
PAUSE = 0.01  # s of each step, so that others find a trial at work
ONLY = ("L1", "L2", "batch ÷")


class Corners(Quadrants):
    """Quadrants that hardly learn, and take their time; each training leaves a line in a file.

    Args:
        notes: file of a line for each training that was begun; None for none.
        dies: number of the training in which the process is killed; 0 for none.
    """

    presets: ClassVar[dict[str, Hyperparameters]] = {"slow": Hyperparameters(epochs=4, batch_size=50, lr=1e-3)}

    def __init__(self, notes: Path | None = None, dies: int = 0) -> None:
        self._notes, self._dies = notes, dies
        self._trainings = self._steps = 0

    def module(self, hp: Hyperparameters, data: Any) -> Any:
        """Note the training."""
        if self._notes:
            with self._notes.open("a") as file:
                file.write(f"{platform.node()} {hp}\n")
        self._trainings += 1
        self._steps = 0
        return super().module(hp, data)

    def augment(self, inputs: list[Tensor], hp: Hyperparameters) -> list[Tensor]:
        """Take a step, or die as by kill -9."""
        self._steps += 1
        if self._trainings == self._dies and self._steps == LAST:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(PAUSE)
        return inputs


def work(number: int, command: str, url: str, folder: Path) -> None:
    """Do what a worker on a machine of its own does, and write its result."""
    name = f"machine-{number}"
    platform.node = lambda: name
    study.HEARTBEAT, study.GRACE = 1, 4
    recipe = Corners(folder / "notes", dies=0 if number else 2)
    folders, budget = Folders(folder, folder / name), Budget(trials=TRIALS, seeds=SEEDS)
    if command == "search":
        result = search.search(recipe, folders, budget, url=url).to_document()
    else:
        result = ablate.ablate(recipe, folders, budget, only=ONLY, url=url).to_document()
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(result))


def main(command: str, url: str, folder: Path) -> int:
    """Fork three workers, and wait for them; the exit code is the number of those that failed."""
    children = []
    for number in range(3):
        if (child := os.fork()) == 0:
            try:
                work(number, command, url, folder)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return 0 if ends == [-signal.SIGKILL, 0, 0] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
