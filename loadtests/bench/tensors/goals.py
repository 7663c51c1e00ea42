"""The goals, each with its bound and the measured value."""

from collections.abc import Callable

from loadtests.bench.page import Goal, at_least, at_most
from loadtests.bench.results import Spread, ratio, spread
from loadtests.bench.tensors.contenders import MODELS
from loadtests.bench.tensors.results import Results, WholeHost, p50, per_second
from loadtests.wrk import Load

TUNED = "fastapi-tuned-2"
THROUGHPUT = {TUNED: 3.0, "torchserve-stock": 10.0, "mlserver": 8.0, "litserve": 8.0, "bentoml": 8.0, "ray-serve": 8.0}
DIRECT = "marloop-direct"
DIRECTLY = {"flights": {TUNED: 3.5, "starlette-2": 2.5, "marloop": 1.5}, "fashion": {TUNED: 2.0}}
COLD = ("cold start, from the command until each has answered", "≤ 2 s")
MEMORY = ("memory of all processes", "≤ 250 MB")
NOISE = 2  # standard errors within which a growth is noise
PAGES = 1.0  # MB over a whole soak that an allocator takes and returns


def goals(results: Results) -> list[Goal]:
    """Return every goal, in order."""
    clients = results.plan.clients
    listed = [
        at_least(
            f"flights, {clients} clients, throughput against {peer}",
            bound,
            ratio(results.loads("marloop", "flights", clients), results.loads(peer, "flights", clients), per_second),
        )
        for peer, bound in THROUGHPUT.items()
    ]
    marloop = results.loads("marloop", "fashion", clients)
    tuned = results.loads(TUNED, "fashion", clients)
    listed.append(
        at_least(f"fashion as JSON floats, {clients} clients, against {TUNED}", 2, ratio(marloop, tuned, per_second))
    )
    for workload, name in (("fashion-png", "PNG"), ("fashion-v2", "v2 binary")):
        other = ratio(results.loads("marloop", workload, clients), marloop, per_second)
        listed.append(at_least(f"fashion as {name} against JSON floats, both Marloop", 1, other))
    latency = ratio(results.loads("marloop-latency", "flights", 1), results.loads(TUNED, "flights", 1), p50)
    listed.append(at_most(f"flights, 1 client, p50 in profile latency against {TUNED}", 2, latency))
    listed += [_tail(results, "marloop", model) for model in MODELS]
    listed += [_errors(results, model) for model in MODELS]
    listed += [_overhead(results, model) for model in MODELS]
    return listed + _direct(results) + _extremes(results)


def _direct(results: Results) -> list[Goal]:
    clients = results.plan.clients

    def share(workload: str, peer: str, count: int, value: Callable[[Load], float]) -> Spread | None:
        return ratio(results.loads(DIRECT, workload, count), results.loads(peer, workload, count), value)

    return [
        *(
            at_least(f"direct host, {model}, {clients} clients, against {peer}", bound,
                     share(model, peer, clients, per_second))
            for model, peers in DIRECTLY.items()
            for peer, bound in peers.items()
        ),
        at_most(f"direct host, flights, 1 client, p50 against {TUNED}", 1, share("flights", TUNED, 1, p50)),
        *(_tail(results, DIRECT, model) for model in MODELS),
        *_whole(results.direct),
    ]  # fmt: skip


def _whole(host: WholeHost | None) -> list[Goal]:
    if host is None:
        return [Goal(f"direct host, {what}", bound, "–", None) for what, bound in (COLD, MEMORY)]
    return [
        Goal(
            f"direct host, {host.models} models: {COLD[0]}", COLD[1], f"{host.cold_start:.1f} s", host.cold_start <= 2
        ),
        Goal(f"direct host, {host.models} models: {MEMORY[0]}", MEMORY[1], f"{host.memory:.0f} MB", host.memory <= 250),
    ]


def _tail(results: Results, contender: str, model: str) -> Goal:
    def tail(load: Load) -> float:
        return load.p99 / load.p50

    measured = spread(results.loads(contender, model, results.plan.clients), tail)
    name = model if contender == "marloop" else f"direct host, {model}"
    return at_most(f"{name}, {results.plan.clients} clients, p99 against p50", 4, measured)


def _errors(results: Results, model: str) -> Goal:
    loads = results.loads("marloop", model, results.plan.many).values()
    errors = sum(load.errors for load in loads)
    measured = f"{errors} of {sum(load.requests for load in loads):,}" if loads else "–"
    return Goal(f"{model}, {results.plan.many} clients, errors", "none", measured, errors == 0 if loads else None)


def _overhead(results: Results, model: str) -> Goal:
    clients = results.plan.clients
    share = ratio(results.loads("marloop", model, clients), results.loads("marloop-bare", model, clients), per_second)
    text = f"{model}, validation and telemetry, share of throughput"
    if share is None:
        return Goal(text, "≤ 15 %", "–", None)
    cost = Spread(1 - share.median, 1 - share.high, 1 - share.low)
    measured = f"{cost.median:.0%} ({cost.low:.0%} to {cost.high:.0%})"
    return Goal(text, "≤ 15 %", measured.replace("%", " %"), cost.median <= 0.15)


def _extremes(results: Results) -> list[Goal]:
    extremes = results.extremes
    if extremes is None:
        names = ("a refusal past the queue's capacity", "recovery after the load's end", "cold start", "memory")
        return [Goal(name, "", "–", None) for name in names]
    guided = extremes.refusal is not None and "retry" in extremes.refusal_body.lower()
    refusal = (
        "none came" if extremes.refusal is None else f"{extremes.refusal:.0f} ms, {'with' if guided else 'no'} guidance"
    )
    rows = [
        Goal("past the queue's capacity: 503, with guidance when to retry", "quick", refusal, guided),
        Goal("recovery after the load's end", "≤ 1 s", f"{extremes.recovery:.2f} s", extremes.recovery <= 1),
        Goal("cold start, from registration to the first answer", "≤ 3 s", f"{extremes.cold_start:.1f} s",
             extremes.cold_start <= 3),
        Goal("memory of a worker after load", "stated", f"{extremes.worker:.0f} MB", True),
    ]  # fmt: skip
    if extremes.growth is None:
        return [*rows, Goal("growth of a worker's memory over a soak", "within noise", "–", None)]
    measured = f"{extremes.growth:+.3f} ± {extremes.growth_error:.3f} MB a minute"
    flat = extremes.growth <= max(NOISE * extremes.growth_error, PAGES / (results.plan.soak / 60 or 1))
    return [*rows, Goal(f"growth of a worker's memory over {results.plan.soak:.0f} s", "within noise", measured, flat)]
