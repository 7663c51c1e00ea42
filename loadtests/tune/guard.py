"""A guard against slowing down: a served model's throughput as a share of a handler's that does nothing.

Both run on the same TorchServe in turn, so that the machine's speed falls out of the ratio.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from loadtests.tune.candidates import Candidate, registered
from serving.archive import handler_alone
from serving.hosts.torchserve.management import Management

ECHO = Path(__file__).with_name("echo_handler.py")
Throughput = Callable[[str], float]


@dataclass(frozen=True)
class Share:
    """What was measured.

    Attributes:
        model: answers a second of the model, median of the rounds.
        echo: of the handler that does nothing.
        ratio: median of the rounds' ratios.
    """

    model: float
    echo: float
    ratio: float


def measure(
    management: Management, store: Path, name: str, archive: bytes, throughput: Throughput, rounds: int
) -> Share:
    """Load a served model and an echo beside it in turn.

    Args:
        archive: of the model, whose batch settings the echo shares.
        throughput: puts load on a served name and gives its answers a second.

    Raises:
        ManagementError: the echo cannot be served.
    """
    settings = Candidate.of(archive)
    found: list[tuple[float, float]] = []
    with registered(management, store, handler_alone(archive, ECHO, "handle"), settings, f"{name}-echo") as echo:
        for one in (name, echo):  # a warm-up
            throughput(one)
        for _ in range(rounds):
            found.append((throughput(name), throughput(echo)))
    return Share(median(m for m, _ in found), median(e for _, e in found), median(m / e for m, e in found))
