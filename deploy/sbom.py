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
    extras = _extras(packages)
    for name, component in components.items():
        needed = {_canonical(requirement.name) for requirement in _requirements(packages[name], extras[name])}
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
    if licenses := _licenses(metadata):
        component["licenses"] = licenses
    return component


def _licenses(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a package's licences: SPDX's expression, else the classifiers, else the name in the old field."""
    if expression := metadata.get("license_expression"):
        return [{"expression": expression}]
    classifiers = [line for line in metadata.get("classifier", []) if line.startswith("License :: ")]
    names = [line.rpartition(" :: ")[2] for line in classifiers if line != "License :: OSI Approved"]
    text = metadata.get("license", "").strip()
    if not names and text and "\n" not in text:  # some put the whole text there
        names = [text]
    return [{"license": {"name": name}} for name in names]


def _extras(packages: dict[str, Any]) -> dict[str, set[str]]:
    """Return the extras of each package that are asked for: by the image's requirements, or by another package."""
    extras = {name: set(item.get("requested_extras") or []) for name, item in packages.items()}
    pending = set(packages)
    while pending:
        name = pending.pop()
        for requirement in _requirements(packages[name], extras[name]):
            other = _canonical(requirement.name)
            if other in packages and not requirement.extras <= extras[other]:
                extras[other] |= requirement.extras
                pending.add(other)
    return extras


def _requirements(item: dict[str, Any], extras: set[str]) -> list[Requirement]:
    """Return what a package with these extras needs here."""
    parsed = [Requirement(text) for text in item["metadata"].get("requires_dist", [])]
    return [
        requirement
        for requirement in parsed
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    document = bill_of_materials(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
