"""Which versions a running TorchServe serves: beside the champion, promoted, withdrawn, or as the registry says.

Every change goes in an order that can be broken off anywhere. Before the registry names a new champion, that one
answers; afterwards whatever is left to do is what ``converge`` does. So whoever is killed at whatever moment,
``converge`` ends with one version of each model, the registry's champion. Only a version that clients go on to ask by
its number stays beside: TorchServe drops what a version has not answered at the moment of its removal.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import httpx
from prometheus_client.parser import text_string_to_metric_families

from handlers.contract import ModelContract
from serving.hosts.host import LaunchError, alone, bring_up_to_date, champion_number
from serving.hosts.torchserve.management import Management, ManagementError
from serving.readiness import LONGEST, ask
from serving.registry import ArchiveError, Registry, Version, version_of

PATIENCE = 10.0  # s that management is waited for where it is only asked whether it answers
DRAIN_PAUSE = 1.0  # s
DRAIN_PAUSES = 5  # in which somebody asks for the version; then it stays
REQUESTS = "ts_inference_requests_total"  # TorchServe's: by model and by the version that a request names
DRAIN_LIMIT = 300.0  # s that the answers of a language model may take which it had begun
RUNNING = "X-Running-Requests"  # of handlers.language.handler


class TorchServeRollout:
    """Changes what one running TorchServe serves. One change at a time, on this machine: the others wait.

    Args:
        registry: names the champions; a lock in its folder orders the changes of all processes.
        management: of the running TorchServe.
        drain: is called with a model and an old version, which gets no new requests but those that name it, and
            returns when it has answered those that it had: True, or False if it is still asked.
    """

    def __init__(
        self,
        registry: Registry,
        management: Management,
        drain: Callable[[str, str], bool],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._registry, self._management, self._drain, self._say = registry, management, drain, say

    def answers(self) -> bool:
        """Whether its management does, soon."""
        return self._management.answers(PATIENCE)

    def beside(self, name: str, number: str) -> None:
        """See ``Rollout``: its workers load it under its number."""
        with alone(self._registry), _explained(f"{name} {number} cannot be served beside the champion"):
            serving = self._management.versions().get(name, [])
            if not serving:
                raise LaunchError(f"{name} is not served, so that {number} would be its default: promote it instead")
            self._load(name, number, serving)

    def withdraw(self, name: str, number: str) -> None:
        """See ``Rollout``: it is drained, then removed."""
        with alone(self._registry), _explained(f"{name} {number} cannot be withdrawn"):
            served = number in self._management.versions().get(name, [])
            if served and champion_number(self._registry, name) != number:
                self._remove(name, number)

    def promote(self, name: str, number: str) -> str:
        """See ``Rollout``: once the registry names the new champion, the rest of the way is left to ``converge``."""
        with alone(self._registry), _explained(f"{name} {number} cannot be promoted"):
            former = champion_number(self._registry, name)
            serving = self._management.versions().get(name, [])
            self._load(name, number, serving)
            self._registry.promote(name, number)
            self._serve(name, number, serving)
            return former

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """See ``Rollout``: what a version has not answered when it is removed would be lost, so it is drained first."""
        with alone(self._registry), _explained("TorchServe cannot be brought up to date"):
            served = self._management.versions()

            def bring(name: str, number: str, version: Version) -> None:
                serving = served.get(name, [])
                with _explained(f"{name} cannot be brought up to date"):
                    self._load(name, number, serving)
                    self._serve(name, number, serving, [kept for model, kept in keep if model == name])

            bring_up_to_date(self._registry, bring, self._say)

    def _load(self, name: str, number: str, serving: Sequence[str]) -> None:
        """Register a version and wait for its workers, unless it is served already."""
        version = version_of(self._registry.models(), name, number)
        if number in serving:
            if serving[0] == number or self._management.is_ready(name, number):
                return
            self._management.unregister(name, number)  # whoever registered it was killed meanwhile, or its workers die
        archive = self._registry.verify(version).name
        try:
            self._management.register(archive)
        except ManagementError:
            with contextlib.suppress(ManagementError):
                self._management.unregister(name, number)  # what may be left of it
            raise
        self._say(f"registered {name} {number}")

    def _serve(self, name: str, number: str, serving: Sequence[str], keep: Collection[str] = ()) -> None:
        """Make a loaded version the default, and remove what was served before."""
        if serving and serving[0] != number:
            self._management.set_default(name, number)
        for old in serving:
            if old != number and old not in keep:
                self._remove(name, old)

    def _remove(self, name: str, number: str) -> None:
        if not self._drain(name, number):
            self._say(f"{name} {number} is still asked by its number: it stays beside until nobody does")
            return
        self._management.unregister(name, number)
        self._say(f"removed {name} {number}")


def connect(
    registry: Registry,
    management: Management,
    inference_url: str,
    client: httpx.Client,
    say: Callable[[str], None] = lambda text: None,
    metrics_url: str = "",
) -> TorchServeRollout:
    """The rollout of a running TorchServe.

    Args:
        registry: names the champions.
        management: of that TorchServe, patient enough for a model to load: ``host.TIMEOUT``.
        inference_url: of the inference port.
        client: of httpx, which asks the versions that go.
        metrics_url: of the metrics port, which counts who asks for a version; empty if it cannot be reached.
    """
    return TorchServeRollout(registry, management, partial(drain, registry, client, inference_url, metrics_url), say)


def drain(registry: Registry, client: httpx.Client, url: str, metrics_url: str, name: str, number: str) -> bool:
    """Wait until a version has answered what it was asked; returns whether it is asked no longer.

    A worker answers in order, so that an answer to a request of ours comes after those of all before it. The pause is
    for a request that the frontend was just handing over, and for a second worker's batch. A language model answers
    many at once and says itself how many; one that is asked by its version all the time is left at a limit.
    """
    for _ in range(DRAIN_PAUSES):
        before = _requests(client, metrics_url, name, number)
        time.sleep(DRAIN_PAUSE)
        own = ask_last(registry, client, url, name, number)
        after = _requests(client, metrics_url, name, number)
        if before is None or after is None or after - before <= own:
            return True
    return False


def ask_last(
    registry: Registry, client: httpx.Client, url: str, name: str, number: str, limit: float = DRAIN_LIMIT
) -> int:
    """Return how many requests were sent to the version after which it has answered all that it had.

    Args:
        limit: s after which it is no longer waited for.
    """
    version = registry.models()[name].get(number)
    if version is None:
        return 0
    try:
        contract = registry.contract(version)
    except ArchiveError:  # gone since: there is no example to ask, and the pause must do
        return 0
    ask(client, url, contract, min(limit, LONGEST))
    if not _streams(contract):
        return 1
    return 1 + _wait_for_answers(client, f"{url}/predictions/{name}/{number}/v1/models", limit)


def _streams(contract: ModelContract) -> bool:
    return contract.task == "generation"


def _requests(client: httpx.Client, metrics_url: str, name: str = "", number: str = "") -> float | None:
    """Return how many requests a version, or all, had since the frontend's start; None if that is not known."""
    if not metrics_url:
        return None
    try:
        text = client.get(f"{metrics_url}/metrics", params={"name[]": REQUESTS}).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (httpx.HTTPError, ValueError):
        return None
    wanted = {"model_name": name, "model_version": number} if name else {}
    counts = [one.value for one in samples if one.name == REQUESTS and wanted.items() <= one.labels.items()]
    return sum(counts)


def _wait_for_answers(client: httpx.Client, url: str, limit: float) -> int:
    """Wait until a language model has none to give; returns how often it was asked."""
    end, asked = time.monotonic() + limit, 0
    while time.monotonic() < end:
        try:
            running = client.get(url).headers.get(RUNNING, "0")  # an older archive does not say
        except httpx.HTTPError:
            break  # there is nobody left to wait for
        asked += 1
        if running == "0":
            break
        time.sleep(DRAIN_PAUSE)
    return asked


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ManagementError as error:
        raise LaunchError(f"{what}: {error}") from error
