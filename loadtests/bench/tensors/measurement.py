"""The measurement: the turn of a server with a model."""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from handlers.contract import ModelContract
from handlers.contract.example import same_answer
from loadtests import wrk
from loadtests.bench import environments
from loadtests.bench.rounds import Turns
from loadtests.bench.tensors import marloop, workloads
from loadtests.bench.tensors.contenders import MODELS, WORKLOADS, Contender
from loadtests.bench.tensors.in_process import InProcess
from loadtests.bench.tensors.results import Results, Sample, Standing
from loadtests.bench.tensors.workloads import Exchange
from serving.ports import free_ports
from serving.processes import running

SEED = 20130217
TURN_TIMEOUT = 300.0  # s
CHECKED = 16  # number of answers that are compared before each measurement


class AnswerError(Exception):
    """A server does not answer as the others do."""


class Turn(NamedTuple):
    """A running contender in one round.

    Attributes:
        number: the round's, from 0.
        folder: the contender's own.
    """

    contender: Contender
    number: int
    url: str
    folder: Path


class Bench:
    """A run.

    Args:
        models: folder of each model, made by ``marloop.unpack``.
        save: called after every turn.
    """

    def __init__(
        self, results: Results, models: Mapping[str, Path], say: Callable[[str], None], save: Callable[[], None]
    ) -> None:
        self._results, self._models, self._say, self._save = results, models, say, save
        self._turns = Turns(results, say, TURN_TIMEOUT, (AnswerError, wrk.WrkError, httpx.HTTPError))
        self._cores = {name: InProcess(folder) for name, folder in models.items()}
        self._rows = {
            name: workloads.draw_rows(core.contract, np.random.default_rng(SEED)) for name, core in self._cores.items()
        }

    def run(self, contenders: list[Contender]) -> None:
        """Measure in all rounds; a contender that fails is noted as absent, and the others go on."""
        ready = self._turns.prepared(contenders)
        for number in range(self._results.plan.rounds):
            for model in MODELS:
                for contender in ready:
                    if contender.name not in self._results.absent and self._workloads(contender, model):
                        self._say(f"round {number + 1} of {self._results.plan.rounds}: {contender.name}, {model}")
                        place = f"{model}, round {number + 1}"
                        self._turns.attempt(contender, place, partial(self._turn, contender, model, number))
                        self._save()

    def ceilings(self, marloop: Contender) -> None:
        """Measure the rate of one process without a server, for each of Marloop's workloads."""
        for name, (_, model) in WORKLOADS.items():
            if name != "ping":
                exchange = self.exchange(marloop, name)
                seconds = self._results.plan.seconds
                self._results.ceilings[name] = self._cores[model].per_second(exchange, seconds)

    def _turn(self, contender: Contender, model: str, number: int) -> None:
        with tempfile.TemporaryDirectory(prefix="mb-", ignore_cleanup_errors=True) as name:  # short: sockets lie in it
            folder = Path(name)
            (port,) = free_ports(1)
            command, environment = contender.command(port, self._models[model], folder)
            turn = Turn(contender, number, f"http://127.0.0.1:{port}", folder)
            started = time.monotonic()
            with running(command, _environment(folder) | environment, folder / "log") as server:
                exchanges = {name: self.exchange(contender, name) for name in self._workloads(contender, model)}
                first = next(iter(exchanges.values()))
                server.wait_until(lambda: answers(turn.url, first))
                start = time.monotonic() - started
                warm_up = self._results.plan.warm_up
                for workload, exchange in exchanges.items():
                    self._check(turn.url, exchange, workload)
                    self._measure(turn, workload, exchange, warm_up)
                    warm_up = self._results.plan.change
                if number == 0:
                    status = self._refusal(turn, next(iter(exchanges)))
                    standing = Standing(contender.name, model, start, server.memory(), status)
                    self._results.standings.append(standing)
            marloop.forget(folder / "run")

    def _measure(self, turn: Turn, workload: str, exchange: Exchange, warm_up: float) -> None:
        plan, contender, url = self._results.plan, turn.contender, turn.url + exchange.path
        path = turn.folder / f"{workload}.lua"
        path.write_text(wrk.script(exchange.method, exchange.headers, exchange.bodies))
        counts = contender.clients or (plan.clients, 1, *([plan.many] if turn.number == 0 else []))
        wrk.run(url, path, max(counts[0], 1), warm_up)
        for clients in counts:
            seconds = plan.seconds if clients > 1 else plan.seconds / 2
            load = wrk.run(url, path, clients, seconds)
            self._results.samples.append(Sample(turn.number, contender.name, workload, clients, load))
            self._say(f"  {workload}, {clients} clients: {load.per_second:.0f}/s, p50 {load.p50:.2f} ms")

    def _check(self, url: str, exchange: Exchange, workload: str) -> None:
        if workload == "ping":
            return
        _, model = WORKLOADS[workload]
        check_answers(url, exchange, self._expected(model))

    def _expected(self, model: str) -> list[Any]:
        exchange = Exchange(
            "", workloads.JSON, [workloads.native(row) for row in self._rows[model]], workloads.read_prediction
        )
        return self._cores[model].answers(exchange)

    def _refusal(self, turn: Turn, workload: str) -> int:
        """Return the status of a bad request, in a connection of its own."""
        _, model = WORKLOADS[workload]
        row = workloads.bad(self.contract(model), self._rows[model][0])
        with suppress(ValueError, TypeError):
            exchange = turn.contender.exchanges[workload](self.contract(model), [row])
            return httpx.post(
                turn.url + exchange.path,
                headers=dict(exchange.headers),
                content=exchange.bodies[0],
                timeout=wrk.PATIENCE,
            ).status_code
        return 0

    def contract(self, model: str) -> ModelContract:
        """Return the contract of a model."""
        return self._cores[model].contract

    def exchange(self, contender: Contender, workload: str) -> Exchange:
        """Return the requests of a workload to a contender."""
        _, model = WORKLOADS[workload]
        return contender.exchanges[workload](self.contract(model), self._rows[model])

    def _workloads(self, contender: Contender, model: str) -> list[str]:
        return [name for name in contender.exchanges if WORKLOADS[name][1] == model]


def answers(url: str, exchange: Exchange) -> bool:
    """Tell whether a server gives a good answer."""
    with suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=wrk.PATIENCE) as client:
        response = client.request(
            exchange.method, url + exchange.path, headers=dict(exchange.headers), content=exchange.bodies[0]
        )
        return response.status_code == 200
    return False


def check_answers(url: str, exchange: Exchange, expected: list[Any]) -> None:
    """Compare a server's answers to the first requests.

    Raises:
        AnswerError: an answer differs, or is an error.
    """
    with httpx.Client(trust_env=False, timeout=wrk.PATIENCE) as client:
        for body, right in list(zip(exchange.bodies, expected, strict=True))[:CHECKED]:
            response = client.post(url + exchange.path, headers=dict(exchange.headers), content=body)
            if response.status_code != 200:
                raise AnswerError(f"{body[:200]!r} was answered {response.status_code}: {response.text[:300]}")
            answer = exchange.decode(response.content)
            if not same_answer(answer, right):
                raise AnswerError(f"{body[:200]!r} was answered {answer}, not {right}")


def _environment(folder: Path) -> dict[str, str]:
    """Return variables that let a server write into its own folder, which is removed after its turn."""
    return environments.quiet() | {
        "TMPDIR": str(folder),
        "RAY_TMPDIR": str(folder),
        "BENTOML_HOME": str(folder / "bentoml"),
    }
