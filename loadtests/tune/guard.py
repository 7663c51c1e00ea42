"""A guard against slower serving: a model's throughput as a share of a handler's that does nothing.

Both run on the same TorchServe in turn, so that the machine's speed cancels out.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec

from loadtests.tune.candidates import Candidate, registered
from serving.archive import handler_alone
from serving.hosts.torchserve.management import Management

ECHO = Path(__file__).with_name("echo_handler.py")
Throughput = Callable[[str], float]


class Share(msgspec.Struct, frozen=True):
    """The throughput of a model as a share of the echo's.

    Attributes:
        model: answers a second of the model, median of the rounds; likewise ``echo`` of the handler that does nothing.
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
        archive: the model's; the echo shares its batch settings.
        throughput: puts load on a served name and returns its answers a second.

    Raises:
        ManagementError: the echo cannot be served.
    """
    settings = Candidate.of(archive)
    with registered(management, store, handler_alone(archive, ECHO, "handle"), settings, f"{name}-echo") as echo:
        for served in (name, echo):  # a warm-up
            throughput(served)
        pairs = [(throughput(name), throughput(echo)) for _ in range(rounds)]
    return Share(median(m for m, _ in pairs), median(e for _, e in pairs), median(m / e for m, e in pairs))
