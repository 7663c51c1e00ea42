"""Changes of the versions that a running TorchServe serves: one more beside the champion, promoted, withdrawn.

Every change has an order that can be broken off anywhere. A new champion answers before the registry names it; the
steps after that are those of ``converge``. So, whichever process is killed at whatever moment, ``converge`` ends with
one version of each model, the registry's champion. Only a version that clients still request by its number stays
beside, since TorchServe drops the requests that a version has not answered when it is removed.
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

PATIENCE = 10.0  # s for an answer of the management, where the question is only whether it answers
DRAIN_PAUSE = 1.0  # s
DRAIN_PAUSES = 5  # with requests for the version in each, it stays
REQUESTS = "ts_inference_requests_total"  # TorchServe's: by model and by the version that a request names
DRAIN_LIMIT = 300.0  # s for answers that a language model has begun
RUNNING = "X-Running-Requests"  # of handlers.language.handler


class TorchServeRollout:
    """Changes the versions that a running TorchServe serves. One change at a time, on this machine: the others wait.

    Args:
        registry: names the champions; a lock in its folder orders the changes of all processes.
        drain: takes a model and an old version, which gets only new requests that name it. It returns True when the
            version has answered its requests, or False if it still gets new ones.
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
        """Tell whether its management answers within ``PATIENCE``."""
        return self._management.answers(PATIENCE)

    def beside(self, name: str, number: str) -> None:
        """See ``Rollout``: workers load the version under its number."""
        with alone(self._registry), _explained(f"{name} {number} cannot be served beside the champion"):
            serving = self._management.versions().get(name, [])
            if not serving:
                raise LaunchError(f"{name} is not served, so that {number} would be its default: promote it instead")
            self._load(name, number, serving)

    def withdraw(self, name: str, number: str) -> None:
        """See ``Rollout``: the version is drained, then removed."""
        with alone(self._registry), _explained(f"{name} {number} cannot be withdrawn"):
            served = number in self._management.versions().get(name, [])
            if served and champion_number(self._registry, name) != number:
                self._remove(name, number)

    def promote(self, name: str, number: str) -> str:
        """See ``Rollout``: once the registry names the new champion, ``converge`` can do the rest."""
        with alone(self._registry), _explained(f"{name} {number} cannot be promoted"):
            former = champion_number(self._registry, name)
            serving = self._management.versions().get(name, [])
            self._load(name, number, serving)
            self._registry.promote(name, number)
            self._serve(name, number, serving)
            return former

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """See ``Rollout``: a version is drained before it is removed, since its unanswered requests would be lost."""
        with alone(self._registry), _explained("TorchServe cannot be brought up to date"):
            served = self._management.versions()
            known = self._registry.models()
            for name in [name for name in served if name not in known and self._registry.removed(name)]:
                for number in reversed(served[name]):  # the default last, as TorchServe has it
                    self._remove(name, number)

            def bring(name: str, number: str, version: Version) -> None:
                serving = served.get(name, [])
                with _explained(f"{name} cannot be brought up to date"):
                    self._load(name, number, serving)
                    self._serve(name, number, serving, [version for model, version in keep if model == name])

            bring_up_to_date(self._registry, bring, self._say)

    def _load(self, name: str, number: str, serving: Sequence[str]) -> None:
        """Register a version and wait for its workers, unless it is served already."""
        version = version_of(self._registry.models(), name, number)
        if number in serving:
            if serving[0] == number or self._management.is_ready(name, number):
                return
            self._management.unregister(name, number)  # its registration was broken off, or its workers die
        archive = self._registry.verify(version).name
        try:
            self._management.register(archive, name, number)
        except ManagementError:
            with contextlib.suppress(ManagementError):
                self._management.unregister(name, number)  # a part may be registered
            raise
        self._say(f"registered {name} {number}")

    def _serve(self, name: str, number: str, serving: Sequence[str], keep: Collection[str] = ()) -> None:
        """Make a loaded version the default, and remove the former ones."""
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
    """Return the rollout of a running TorchServe.

    Args:
        management: with a timeout that covers the loading of a model: ``host.TIMEOUT``.
        client: asks the versions that go.
        metrics_url: of the metrics port, which counts the requests for a version; empty if it cannot be reached.
    """
    return TorchServeRollout(registry, management, partial(drain, registry, client, inference_url, metrics_url), say)


def drain(registry: Registry, client: httpx.Client, url: str, metrics_url: str, name: str, number: str) -> bool:
    """Wait until a version has answered its requests, and return whether it gets no new ones.

    A worker answers in order, so that an answer to a request of ours comes after all former ones. The pause is for a
    request that the frontend is just handing over, and for a second worker's batch. A language model answers many
    requests at once and reports their number; one with requests all the time is given up at a limit.
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
    """Wait until a version has answered its requests, and return the number of our own requests for that.

    Args:
        limit: s until a version that does not finish is given up.
    """
    version = registry.models().get(name, {}).get(number)
    if version is None:
        return 0
    try:
        contract = registry.contract(version)
    except ArchiveError:  # its file is gone: there is no example to ask, and the pause must do
        return 0
    ask(client, url, contract, min(limit, LONGEST))
    if not _streams(contract):
        return 1
    return 1 + _wait_for_answers(client, f"{url}/predictions/{name}/{number}/v1/models", limit)


def _streams(contract: ModelContract) -> bool:
    return contract.task == "generation"


def _requests(client: httpx.Client, metrics_url: str, name: str = "", number: str = "") -> float | None:
    """Return the number of requests for a version, or for all, since the frontend's start; None if it is unknown."""
    if not metrics_url:
        return None
    try:
        text = client.get(f"{metrics_url}/metrics", params={"name[]": REQUESTS}).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (httpx.HTTPError, ValueError):
        return None
    labels = {"model_name": name, "model_version": number} if name else {}
    return sum(
        sample.value for sample in samples if sample.name == REQUESTS and labels.items() <= sample.labels.items()
    )


def _wait_for_answers(client: httpx.Client, url: str, limit: float) -> int:
    """Wait until a language model has no request left, and return how often it was asked."""
    end, questions = time.monotonic() + limit, 0
    while time.monotonic() < end:
        try:
            running = client.get(url).headers.get(RUNNING, "0")  # an older archive does not send it
        except httpx.HTTPError:
            break  # its worker has ended
        questions += 1
        if running == "0":
            break
        time.sleep(DRAIN_PAUSE)
    return questions


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ManagementError as error:
        raise LaunchError(f"{what}: {error}") from error
