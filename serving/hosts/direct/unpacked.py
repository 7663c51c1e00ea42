"""Archives unpacked on this machine, one folder for each content, shared by all workers."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from handlers.contract import ModelContract
from serving import archive
from serving.archive import ArchiveError

SERVED = frozenset({"tabular", "image", "text", "foreign"})  # handlers of ours that every worker has


def is_language(path: Path) -> bool:
    """Tell whether an archive holds a language model; False where it cannot be read."""
    with contextlib.suppress(ArchiveError):
        return language_contract(path) is not None
    return False


def language_contract(path: Path) -> ModelContract | None:
    """Return the contract of a language model's archive; None for another model's.

    Raises:
        ArchiveError: it cannot be read.
    """
    contract = archive.read_contract(path)
    return contract if contract.task == "generation" else None


def check_served(path: Path) -> None:
    """Raise unless this host serves the model of an archive: all its tensor models share processes and handlers.

    Raises:
        ArchiveError: its handler is its own; says who serves it, and what would be served here.
    """
    if (handler := archive.entry_point(path)) not in SERVED and not is_language(path):
        raise ArchiveError(
            f"its handler {handler}.py is code of the archive, which the direct host runs for language models alone: "
            "`make up HOST=torchserve` serves it, as does this host once `make train` has packaged it with a handler "
            f"of Marloop ({', '.join(sorted(SERVED))})"
        )


class Unpacked:
    """The folder of the unpacked archives; nobody else writes into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, path: Path, sha256: str) -> Path:
        """Return the folder of an archive's content, unpacked now unless it was before.

        The folder is renamed into place when it is whole, so that none is ever half there.

        Raises:
            ArchiveError: it is no archive.
        """
        target = self._folder / sha256
        if target.is_dir():
            return target
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=self._folder, prefix="draft-"))
        try:
            archive.unpack(path, draft)
            os.replace(draft, target)
        except OSError:
            if not target.is_dir():  # else another worker was quicker
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return target
