"""A lock file from pip's report: each package with its version and the SHA-256 of the file that pip chose.

pip install --dry-run --ignore-installed --report report.json … && python deploy/lock.py report.json
"""

import json
import sys
from pathlib import Path
from typing import Any


def locked(report: dict[str, Any]) -> list[str]:
    """Return the lines of a requirements file that pip takes with ``--require-hashes``.

    Args:
        report: pip's JSON ("Installation Report" in its documentation).

    Raises:
        ValueError: a package has no hash: it comes from a folder or a repository.
    """
    lines = []
    for item in report["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if item["download_info"].get("dir_info") is not None and item["requested"]:
            continue  # the project itself
        sha256 = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if not sha256:
            raise ValueError(f"{name} {version} comes from no archive with a SHA-256")
        lines.append(f"{name.lower()}=={version} --hash=sha256:{sha256}")
    return sorted(lines)


if __name__ == "__main__":
    sys.stdout.write("\n".join(locked(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))) + "\n")
