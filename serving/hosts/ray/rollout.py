"""Changes of the versions that Ray Serve serves: one more beside the champion, promoted, withdrawn.

A version is deployed as an application of its own and answers its example through the front, before the front's map
names it. Nothing that serves is ever changed in place. What fails to load is taken out again; the others do not notice.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import httpx

from serving.hosts.host import LaunchError, alone, champion_number
from serving.hosts.ray import deployed
from serving.hosts.ray.cluster import Deployed, ServeApi
from serving.hosts.ray.config import Application, application, serve_config
from serving.hosts.ray.deployed import State
from serving.hosts.ray.front import control as front
from serving.hosts.ray.settings import Offset, Place, RaySettings
from serving.readiness import LONGEST, ask
from serving.registry import ArchiveError, Registry, Version, version_of

POLL = 0.2  # s
TIMEOUT = 300.0  # s until a version answers: Serve starts a process, and on a busy machine its controller before
TIMES = 3  # that a version answers its example before requests are handed to it


class RayRollout:
    """Changes the versions that one run serves. One change at a time, on this machine: the others wait.

    Args:
        registry: names the champions; a lock in its folder orders the changes of all processes.
        serve: where versions are deployed.
        variables: of the replicas' environment.
        url: of the inference port.
    """

    def __init__(
        self,
        registry: Registry,
        place: Place,
        ray: RaySettings,
        serve: ServeApi,
        variables: Mapping[str, str],
        url: str,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._registry, self._place, self._ray, self._say = registry, place, ray, say
        self._serve, self._variables, self._url = serve, variables, url

    def answers(self) -> bool:
        """Tell whether Ray's head answers."""
        return self._serve.lives()

    def beside(self, name: str, number: str) -> None:
        """See ``Rollout``: the version is an application more."""
        with alone(self._registry):
            version = version_of(self._registry.models(), name, number)
            if name not in deployed.read(self._place).champions:
                raise LaunchError(f"{name} is not served, so that {number} would be its default: promote it instead")
            self._load(name, number, version)

    def withdraw(self, name: str, number: str) -> None:
        """See ``Rollout``: no request is handed to the version, then its replicas answer what they have and end."""
        with alone(self._registry):
            if champion_number(self._registry, name) != number:
                self._keep_all_but([(name, number)])

    def promote(self, name: str, number: str) -> str:
        """See ``Rollout``: once the registry names the new champion, ``converge`` can do the rest."""
        with alone(self._registry):
            version = version_of(self._registry.models(), name, number)
            former = champion_number(self._registry, name)
            self._load(name, number, version)
            self._registry.promote(name, number)
            self._serve_as_champion(name, number)
            self._keep_all_but((name, old) for old in self._others(name, number))
            self._say(f"promoted {name} {number}")
            return former

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """See ``Rollout``: the new champions are loaded together, then each takes the place of the former one."""
        with alone(self._registry):
            wanted = self._wanted()
            state = deployed.read(self._place)
            champions = {added.key for added in wanted}
            removed = [key for key in state.keys if not self._registry.models().get(key[0])]
            self._write(state.without(removed))
            if not state.applications:
                self._wait_for_nodes()
            faults = self._load_all(wanted)
            loaded = deployed.read(self._place)
            for name, number in sorted(champions & loaded.keys):
                if loaded.champions.get(name) != number:
                    self._serve_as_champion(name, number)
            current = deployed.read(self._place)
            stay = {*keep, *champions, *current.champions.items()}
            self._keep_all_but(key for key in current.keys if key not in stay)
        if faults:
            raise LaunchError("; ".join(faults))

    def _wanted(self) -> list[Application]:
        """Return the champions whose archives are as registered; one whose archive is not is reported and left out."""
        wanted: list[Application] = []
        for name, (number, version) in self._registry.champions().items():
            try:
                self._registry.verify(version)
                wanted.append(application(self._registry, name, number, version, self._ray))
            except ArchiveError as error:
                self._say(f"refused {name} {number}: {error}")
        return wanted

    def _load(self, name: str, number: str, version: Version) -> None:
        self._registry.verify(version)
        if faults := self._load_all([application(self._registry, name, number, version, self._ray)]):
            raise LaunchError(faults[0])

    def _load_all(self, wanted: Sequence[Application]) -> list[str]:
        """Deploy versions beside what is deployed, and wait until each answers; return why some do not.

        Those that do not are taken out again.
        """
        state = before = deployed.read(self._place)
        faults: list[str] = []
        new: list[Application] = []
        for added in wanted:
            former = before.find(*added.key)
            if former and former.sha256 != added.sha256:  # an application is never changed in place
                faults.append(
                    f"{added.model} {added.version} was registered anew while its former archive is served: "
                    "give it another number, or stop the host"
                )
                continue
            new += [added] if former is None else []
            state = state.with_version(added)  # a changed number of replicas restarts none
        self._deploy(state)
        broken: dict[tuple[str, str], str] = {}
        for added in state.applications:
            if added.key in {version.key for version in wanted} and (fault := self._wait_for(added)):
                broken[added.key] = f"{added.model} {added.version} {fault}"
        failed = [added.key for added in new if added.key in broken]
        if failed:
            self._deploy(state.without(failed))
        for added in new:
            if added.key not in broken:
                self._say(f"{added.model} {added.version} answers")
        return faults + list(broken.values())

    def _wait_for_nodes(self) -> None:
        """Wait until as many machines have joined as the settings say."""
        deadline = time.monotonic() + TIMEOUT
        while (count := self._count_nodes()) < self._ray.nodes:
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"{count} of MARLOOP_RAY_NODES={self._ray.nodes} machines have joined after {TIMEOUT:.0f} s: run "
                    f"`marloop ray-node {self._place.head}` on the others"
                )
            time.sleep(POLL)

    def _count_nodes(self) -> int:
        try:
            return self._serve.count_nodes() if self._ray.nodes > 1 else 1
        except LaunchError:  # the head has just begun
            return 0

    def _wait_for(self, added: Application) -> str:
        """Wait until a version answers its example; return why it does not."""
        deadline = time.monotonic() + TIMEOUT
        contract = self._registry.contract(version_of(self._registry.models(), *added.key))
        answered, detail = 0, ""
        with httpx.Client(trust_env=False) as client:
            while time.monotonic() < deadline:
                app = self._application(added)
                if app and app.status in ("DEPLOY_FAILED", "UNHEALTHY") and not app.replicas:
                    return f"does not load: {app.cause}"
                if app and app.replicas:
                    readiness = ask(client, self._url, contract, LONGEST)
                    answered, detail = (answered + 1 if readiness.ready else 0), readiness.detail
                    if answered >= TIMES:
                        return ""
                    if readiness.ready:
                        continue
                time.sleep(POLL)
        return f"is not ready after {TIMEOUT:.0f} s: {detail or 'no replica runs'}"

    def _application(self, added: Application) -> Deployed | None:
        """Return what Serve says of a version; None while it has the answer of before, or none."""
        try:
            app = self._serve.applications().get(added.name)
        except LaunchError:
            return None
        return app if app and app.sha256 == added.sha256 and app.status != "DELETING" else None

    def _others(self, name: str, number: str) -> list[str]:
        return [other for other in deployed.read(self._place).served().get(name, []) if other != number]

    def _serve_as_champion(self, name: str, number: str) -> None:
        """Have a version that answers answer where a request names none."""
        state = deployed.read(self._place)
        if state.find(name, number) is None:
            return
        self._write(state.with_champion(name, number))

    def _keep_all_but(self, keys: Iterable[tuple[str, str]]) -> None:
        """Hand no request to some versions any more, then have Serve end them."""
        state = deployed.read(self._place)
        kept = state.without(keys)
        if kept != state:
            self._deploy(kept)

    def _deploy(self, state: State) -> None:
        """Have Serve run the versions of a state; the front knows those that go no more, and then the new ones."""
        before = deployed.read(self._place)
        if gone := before.keys - state.keys:
            self._write(before.without(gone))
        host, port = self._place.served_at, self._place.port(Offset.PROXY)
        self._serve.deploy(serve_config(state.applications, host, port, str(self._place.cache), self._variables))
        self._write(state)

    def _write(self, state: State) -> None:
        deployed.write(self._place, state)
        wanted = self._registry.champions()
        front.publish(self._place, front.entries(state.served(), state.champions, wanted))
