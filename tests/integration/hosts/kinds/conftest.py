"""One store with a model of every kind, imported as a user imports it, and one server of them on each host.

TorchServe starts a worker a model, which takes minutes for all: there one a way of serving stands for the others.
"""

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.hosts.direct import background as direct
from serving.hosts.torchserve import background as torchserve
from tests.integration.conftest import Server, monitored
from tests.support.kept import keep, sources
from tests.support.training.kinds.made import Made
from tests.support.training.kinds.table import MAKERS, lacking
from training.__main__ import app

# Kinds that differ once imported: in the codec, in the engine, or in the columns. Most others become an ONNX graph too.
WAYS = ("strings", "mixed", "xgboost", "halved", "waves", "ridge", "mood", "vectors", "names", "pets", "pixels", "smol")


@dataclass(frozen=True)
class Kinds:
    """Imported models.

    Attributes:
        folder: of the stores.
        made: what was imported, by kind.
        skipped: why others were not, by kind.
    """

    folder: Path
    made: dict[str, Made]
    skipped: dict[str, str]

    @property
    def store(self) -> Path:
        """Store of all, each model under the name of its kind."""
        return self.folder / "store"

    @property
    def store_of_ways(self) -> Path:
        """Store of those in ``WAYS``."""
        return self.folder / "ways"

    def __getitem__(self, kind: str) -> Made:
        """Return what a kind's own framework answers; skip the test where its library is not installed."""
        if kind in self.skipped:
            pytest.skip(self.skipped[kind])
        return self.made[kind]


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    """A model of every kind whose library is installed, in stores of this process's own."""
    kept = keep("kinds", sources(), "all", make_kinds)
    folder = tmp_path_factory.mktemp("kinds")
    for store in ("store", "ways"):
        shutil.copytree(kept / store, folder / store)
    made: dict[str, Made] = pickle.loads((kept / "made.pickle").read_bytes())
    return Kinds(folder, made, {kind: why for kind in MAKERS if (why := lacking(kind))})


def make_kinds(folder: Path) -> None:
    """Make a model of every kind whose library is installed, and import each as a user does."""
    kinds = Kinds(folder, {}, {})
    for kind in (kind for kind in dict.fromkeys((*WAYS, *MAKERS)) if not lacking(kind)):
        if kind not in WAYS and not kinds.store_of_ways.exists():
            shutil.copytree(kinds.store, kinds.store_of_ways)
        own = folder / kind
        own.mkdir()
        kinds.made[kind] = made = MAKERS[kind](own)
        options = ["--name", kind, *map(str, made.options), "--store", str(kinds.store)]
        done = CliRunner().invoke(app, ["import", str(made.file), *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert made.told in " ".join(done.output.split())
    (folder / "made.pickle").write_bytes(pickle.dumps(kinds.made))


@pytest.fixture(scope="session", params=["torchserve", "direct"])
def own(request: pytest.FixtureRequest, kinds: Kinds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each host and its monitor, with those of ``WAYS`` or all; workers take long to start where others compute too."""
    store = kinds.store_of_ways if request.param == "torchserve" else kinds.store
    runs = tmp_path_factory.mktemp("hosts") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        for host in (torchserve, direct):
            patch.setattr(host, "START_TIMEOUT", 600.0)
        with monitored(store, runs, {"MARLOOP_PROBE_INTERVAL": "5"}, request.param) as server:
            yield server
