"""How the processes of pytest-xdist share the tests: by file, with one TorchServe for all that only ask it."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Protocol, TypeVar

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

# Files that ask the session's TorchServe, the echo's beside it: one process runs them, so that each is started once.
SHARED = (
    "tests/integration/test_bad_input.py",
    "tests/integration/test_formats.py",
    "tests/integration/test_gateway.py",
    "tests/integration/test_grpc.py",
    "tests/integration/test_kserve_clients.py",
    "tests/integration/test_management_attacks.py",
    "tests/integration/load/test_load.py",
    "tests/integration/load/test_tune.py",
    "tests/integration/monitoring/test_dashboards.py",
)
# A folder whose files ask the same servers, each with a model of every kind.
KINDS = "tests/integration/hosts/kinds/"
LONG = ("torchserve", KINDS, "tests/integration/monitoring/test_replay.py")  # minutes, so that they start first
WAITS = ("tests/integration/", "tests/chaos/", "tests/compose/")  # for servers, most of the time
COMPUTES = ("tests/training/", "tests/monitoring/", "tests/loadtests/")  # most, the longest first


class Schedule(LoadFileScheduling):  # type: ignore[misc]
    """Hands out whole files in the order of ``in_order``, those of ``SHARED`` together."""

    def __init__(self, config, log) -> None:  # type: ignore[no-untyped-def]
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


class Item(Protocol):
    """A test, as pytest collects it."""

    @property
    def nodeid(self) -> str:
        """Its file and name."""


def scope(nodeid: str) -> str:
    """Return what a test is handed out with: its file, or all that share a server."""
    file = nodeid.partition("::")[0]
    if file.startswith(KINDS):
        return KINDS
    return "torchserve" if file in SHARED else file


T = TypeVar("T", bound=Item)


def in_order(items: Sequence[T]) -> list[T]:
    """Return the tests, file by file: what waits is spread evenly over what computes, and short files are at the end.

    The processes take files from the front. So at any time some wait for their servers, and others have the cores.
    """
    files: dict[str, list[T]] = {}
    for item in items:
        files.setdefault(scope(item.nodeid), []).append(item)
    names = sorted(files, key=_rank)  # the sort is stable
    waits = [name for name in names if name in LONG or name.startswith(WAITS)]
    computes = [name for name in names if name.startswith(COMPUTES)]
    spread = sorted((*_places(waits), *_places(computes)), key=lambda place: place[0])
    first = [name for _, name in spread]
    return list(chain.from_iterable(files[name] for name in dict.fromkeys((*first, *names))))


def _places(names: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Yield each name with its place from 0 to 1."""
    return ((number / len(names), name) for number, name in enumerate(names))


def _rank(name: str) -> int:
    order = (*LONG, *COMPUTES)
    return next((rank for rank, prefix in enumerate(order) if name.startswith(prefix)), len(order))
