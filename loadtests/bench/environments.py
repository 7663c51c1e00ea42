"""A virtual environment for each peer, made when it is first needed."""

import hashlib
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


class InstallError(Exception):
    """A peer cannot be installed; the message has pip's last words."""


def ensure(
    peer: str,
    root: Path,
    say: Callable[[str], None] = lambda text: None,
    peers: Path = PEERS,
    borrow: bool = False,
) -> Path:
    """The Python of a peer's environment, with what its ``requirements.txt`` pins.

    An interrupted installation is completed by the next call.

    Args:
        peer: a folder of ``peers``.
        root: folder of the environments.
        say: is told that it takes a while.
        peers: folder of the peers' code.
        borrow: it sees our own environment's packages too, and installs only what differs; for large ones.

    Raises:
        InstallError: pip failed.
    """
    requirements = peers / peer / "requirements.txt"
    folder = root / peer
    python, stamp = folder / "bin" / "python", folder / "installed"
    ours = sysconfig.get_path("purelib") if borrow else ""
    wanted = hashlib.sha256(requirements.read_bytes() + ours.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    say(f"installing {peer} into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    if borrow:
        own = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        (Path(own) / "borrowed.pth").write_text(ours)
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])
    stamp.write_text(wanted)
    return python


def versions(python: Path) -> list[str]:
    """Every package of an environment, as ``name==version``."""
    return _run([str(python), "-m", "pip", "freeze", "--disable-pip-version-check"]).split()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")][-3:]
        raise InstallError(" ".join(reason) or f"{' '.join(command)} failed")
    return done.stdout
