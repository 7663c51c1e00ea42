"""What makes a deployment repeatable: files by their SHA-256."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


def materials(folder: Path, *packages: dict[str, object]) -> dict[str, Any]:
    path = folder / "report.json"
    path.write_text(json.dumps({"install": packages}))
    command = [sys.executable, str(ROOT / "deploy" / "sbom.py"), "direct", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_bill_of_materials_names_each_package_its_file_and_what_needs_it(tmp_path: Path) -> None:
    archive = {"archive_info": {"hashes": {"sha256": SHA}}}
    httpx, certifi = package("HTTPX", "0.28.1", **archive), package("certifi", "2026.10.18", **archive)
    httpx |= {"requested": True}
    needed = ["certifi", "h2 (<5,>=3) ; extra == 'http2'", "none-here ; python_version < '3'"]
    httpx["metadata"] = {"name": "HTTPX", "version": "0.28.1", "license_expression": "MIT", "requires_dist": needed}
    document = materials(tmp_path, httpx, certifi)
    first = document["components"][1]
    assert (first["purl"], first["hashes"]) == ("pkg:pypi/httpx@0.28.1", [{"alg": "SHA-256", "content": SHA}])
    assert first["licenses"] == [{"expression": "MIT"}]
    assert document["dependencies"] == [
        {"ref": "marloop-direct", "dependsOn": ["pkg:pypi/httpx@0.28.1"]},
        {"ref": "pkg:pypi/certifi@2026.10.18", "dependsOn": []},
        {"ref": "pkg:pypi/httpx@0.28.1", "dependsOn": ["pkg:pypi/certifi@2026.10.18"]},
    ]


def test_the_bill_of_materials_is_valid_by_cyclonedx_s_own_schema(tmp_path: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    archive = {"archive_info": {"hashes": {"sha256": SHA}}}
    document = materials(tmp_path, package("Torch", "2.13.0+cpu", **archive), package("numpy", "2.4.0", vcs_info={}))
    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(document)) is None
    assert validator.validate_str(json.dumps(document | {"components": [{"name": "x"}]})) is not None


def test_what_an_extra_brings_is_needed_by_whatever_has_it_and_a_licence_is_told_in_any_form(tmp_path: Path) -> None:
    archive = {"archive_info": {"hashes": {"sha256": SHA}}}
    names = ("psycopg", "psycopg-binary", "lightning", "fsspec", "aiohttp")
    image = {name: package(name, "1.0", **archive) | {"requested": name in ("psycopg", "lightning")} for name in names}
    image["psycopg"] |= {"requested_extras": ["binary"]}
    more: dict[str, dict[str, Any]] = {
        "psycopg": {"requires_dist": ["psycopg-binary ; extra == 'binary'"], "license": "LGPL-3.0"},
        "lightning": {"requires_dist": ["fsspec[http]"], "classifier": ["License :: OSI Approved :: Apache Software"]},
        "fsspec": {"requires_dist": ["aiohttp ; extra == 'http'"], "license": "the whole\ntext"},
    }
    for name, metadata in more.items():
        image[name]["metadata"] = {"name": name, "version": "1.0", **metadata}
    document = materials(tmp_path, *image.values())
    needs = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    assert needs["pkg:pypi/psycopg@1.0"] == ["pkg:pypi/psycopg-binary@1.0"]
    assert needs["pkg:pypi/fsspec@1.0"] == ["pkg:pypi/aiohttp@1.0"]
    licenses = {component["name"]: component.get("licenses") for component in document["components"]}
    assert licenses["psycopg"] == [{"license": {"name": "LGPL-3.0"}}]
    assert licenses["lightning"] == [{"license": {"name": "Apache Software"}}]
    assert licenses["fsspec"] is None
