"""A bill of materials (CycloneDX 1.6) of an image, from pip's report: each package with the SHA-256 of its file.

pip install --dry-run --ignore-installed --report report.json … && python deploy/sbom.py direct report.json

Where an image runs, `marloop sbom` lists what is installed there, Debian's packages among it.
"""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from packaging.requirements import Requirement


def bill_of_materials(image: str, report: dict[str, Any]) -> dict[str, Any]:
    """Return the document.

    Args:
        image: torchserve or direct.
        report: pip's JSON ("Installation Report" in its documentation).
    """
    packages = {_canonical(item["metadata"]["name"]): item for item in report["install"]}
    components = {name: _component(name, item) for name, item in sorted(packages.items())}
    root = {"type": "container", "name": f"marloop-{image}", "bom-ref": f"marloop-{image}"}
    requested = [components[name]["bom-ref"] for name, item in sorted(packages.items()) if item["requested"]]
    dependencies = [{"ref": root["bom-ref"], "dependsOn": requested}]
    for name, component in components.items():
        needed = _needed(packages[name]["metadata"].get("requires_dist", []))
        references = sorted(components[other]["bom-ref"] for other in needed & components.keys())
        dependencies.append({"ref": component["bom-ref"], "dependsOn": references})
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid4()}",
        "version": 1,
        "metadata": {"timestamp": datetime.now(UTC).isoformat(timespec="seconds"), "component": root},
        "components": list(components.values()),
        "dependencies": dependencies,
    }


def _component(name: str, item: dict[str, Any]) -> dict[str, Any]:
    metadata, version = item["metadata"], item["metadata"]["version"]
    url = f"pkg:pypi/{name}@{quote(version)}"
    component = {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url}
    if sha256 := item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256"):
        component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if expression := metadata.get("license_expression"):  # SPDX's
        component["licenses"] = [{"expression": expression}]
    return component


def _needed(requirements: list[str]) -> set[str]:
    """Return the names of packages that one needs here, without those of its extras."""
    parsed = [Requirement(text) for text in requirements]
    return {_canonical(one.name) for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    document = bill_of_materials(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
