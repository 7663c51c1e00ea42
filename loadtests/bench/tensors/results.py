"""The results of a run, as JSON."""

import msgspec

from loadtests.bench.results import Run
from loadtests.wrk import Load


class Plan(msgspec.Struct, frozen=True):
    """The durations and numbers of measurements; times in seconds."""

    rounds: int = 5
    seconds: float = 3  # of each measurement; half of it with one client, whose figures vary less
    warm_up: float = 12  # before a server's first workload: Java compiles what is hot meanwhile
    change: float = 3  # before each further workload of the same server
    clients: int = 64
    many: int = 512  # clients, once, only for the errors
    soak: float = 0  # 0: none
    flood: int = 1600  # clients, more than wait in the queue


QUICK = Plan(rounds=1, seconds=1, warm_up=1, change=1, many=128)


class Sample(msgspec.Struct, frozen=True):
    """A run of wrk."""

    round: int
    contender: str
    workload: str
    clients: int
    load: Load


class Standing(msgspec.Struct, frozen=True):
    """The figures of a contender with a model that are measured once.

    Attributes:
        start: seconds from the command to the first answer.
        memory: MB after load, all processes, shared pages once.
        bad_input: HTTP status for a bad request.
    """

    contender: str
    model: str
    start: float
    memory: float
    bad_input: int


class Extremes(msgspec.Struct):
    """Marloop past its capacity, and over time.

    Attributes:
        cold_start: seconds from the registration of an archive to its first answer.
        refusal: median milliseconds to a 503 while the queue was full; None if there was none.
        refusal_body: body of such an answer.
        recovery: seconds from the flood's end until ten requests in a row were answered.
        worker: MB resident a worker after load.
        growth: MB a minute that a worker grew by during the soak; None without a soak.
        growth_error: standard error of ``growth``.
    """

    cold_start: float
    refusal: float | None
    refusal_body: str
    recovery: float
    worker: float
    growth: float | None = None
    growth_error: float = 0.0


class WholeHost(msgspec.Struct):
    """The direct host with every model of a store.

    Attributes:
        models: number of them.
        cold_start: seconds from the command until each has answered its example.
        memory: MB of all processes then, shared pages once.
    """

    models: int
    cold_start: float
    memory: float


class Results(Run, kw_only=True):
    """The results of a run, with every package of each contender's environment.

    Attributes:
        settings: ``model-config.yaml`` of each model.
        ceilings: requests a second of one process without a server, by workload.
    """

    plan: Plan
    settings: dict[str, dict[str, object]] = {}
    samples: list[Sample] = []
    standings: list[Standing] = []
    ceilings: dict[str, float] = {}
    extremes: Extremes | None = None
    direct: WholeHost | None = None

    def loads(self, contender: str, workload: str, clients: int) -> dict[int, Load]:
        """Return the loads by round."""
        key = (contender, workload, clients)
        return {s.round: s.load for s in self.samples if (s.contender, s.workload, s.clients) == key}

    def standing(self, contender: str, model: str) -> Standing | None:
        """Return the figures that were measured once."""
        return next((s for s in self.standings if (s.contender, s.model) == (contender, model)), None)


def per_second(load: Load) -> float:
    """Return the good answers a second."""
    return load.per_second


def p50(load: Load) -> float:
    """Return the median latency in ms."""
    return load.p50
