"""A virtual environment for each peer, made when it is first needed, and the variables that every server gets."""

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
_STAMP = "installed"  # file with the digest of the installed requirements


class InstallError(Exception):
    """A peer cannot be installed; the message has pip's last words."""


def ensure(
    peer: str,
    root: Path,
    say: Callable[[str], None] = lambda text: None,
    peers: Path = PEERS,
    borrow: bool = False,
) -> Path:
    """Return the Python of a peer's environment, with the packages that its ``requirements.txt`` pins.

    An interrupted installation is completed by the next call.

    Args:
        peer: a folder of ``peers``.
        borrow: whether the environment sees our own packages too, and installs only those that differ; for large ones.

    Raises:
        InstallError: pip failed.
    """
    folder = root / peer
    python = folder / "bin" / "python"
    requirements = peers / peer / "requirements.txt"
    if is_installed(peer, root, peers, borrow):
        return python
    say(f"installing {peer} into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    if borrow:
        own = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        (Path(own) / "borrowed.pth").write_text(_ours())
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])
    (folder / _STAMP).write_text(_digest(requirements, borrow))
    return python


def is_installed(peer: str, root: Path, peers: Path = PEERS, borrow: bool = False) -> bool:
    """Tell whether a peer's environment holds the packages that its ``requirements.txt`` pins now."""
    stamp = root / peer / _STAMP
    return stamp.is_file() and stamp.read_text() == _digest(peers / peer / "requirements.txt", borrow)


def versions(python: Path) -> list[str]:
    """Return every package of an environment, as ``name==version``."""
    # ``freeze`` would name the file of one that was installed from a wheel on this machine.
    listed = ("list", "--format=freeze", "--exclude-editable", "--disable-pip-version-check")
    return _run([str(python), "-m", "pip", *listed]).split()


def quiet() -> dict[str, str]:
    """Return the variables of every server: one thread an operator, and no reports to anybody's makers."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }


def _digest(requirements: Path, borrow: bool) -> str:
    return hashlib.sha256(requirements.read_bytes() + (_ours() if borrow else "").encode()).hexdigest()


def _ours() -> str:
    return sysconfig.get_path("purelib")


def _run(command: list[str]) -> str:
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        reason = [line for line in process.stderr.splitlines() if not line.startswith("WARNING")][-3:]
        raise InstallError(" ".join(reason) or f"{' '.join(command)} failed")
    return process.stdout
