"""What makes a deployment repeatable: files by their SHA-256."""

import json
import subprocess
import sys
from pathlib import Path

from serving.settings import ROOT

SHA = "0" * 64


def package(name: str, version: str, **download: object) -> dict[str, object]:
    return {"metadata": {"name": name, "version": version}, "download_info": download, "requested": False}


def lock(folder: Path, *packages: dict[str, object]) -> subprocess.CompletedProcess[str]:
    path = folder / "report.json"
    path.write_text(json.dumps({"install": packages}))
    return subprocess.run([sys.executable, ROOT / "deploy" / "lock.py", path], capture_output=True, text=True)


def test_the_lock_names_each_package_but_ours_with_the_sha256_of_its_file(tmp_path: Path) -> None:
    archive = {"archive_info": {"hashes": {"sha256": SHA}}}
    ours = package("marloop", "0.1.0", dir_info={}) | {"requested": True}
    done = lock(tmp_path, package("Torch", "2.13.0+cpu", **archive), ours, package("numpy", "2.4.0", **archive))
    assert done.stdout.splitlines() == [f"numpy==2.4.0 --hash=sha256:{SHA}", f"torch==2.13.0+cpu --hash=sha256:{SHA}"]


def test_a_package_without_a_hash_is_no_part_of_a_lock(tmp_path: Path) -> None:
    done = lock(tmp_path, package("numpy", "2.4.0", vcs_info={}))
    assert done.returncode != 0
    assert "numpy 2.4.0 comes from no archive with a SHA-256" in done.stderr
