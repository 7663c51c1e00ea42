"""The file that says which versions are deployed on Ray Serve, and which answer where a request names none.

The registry knows the champions, and not what is served beside them. This file has both, and is the truth for the
front's map and for a head that comes back without its memory.
"""

from collections.abc import Iterable

import msgspec

from serving import documents
from serving.hosts.ray.config import Application
from serving.hosts.ray.settings import Place


class State(msgspec.Struct, frozen=True):
    """The deployed versions.

    Attributes:
        champions: numbers by model.
    """

    applications: tuple[Application, ...] = ()
    champions: dict[str, str] = {}

    @property
    def keys(self) -> set[tuple[str, str]]:
        """The models and versions."""
        return {deployed.key for deployed in self.applications}

    def find(self, model: str, number: str) -> Application | None:
        """Return a version; None where it is not deployed."""
        return next((deployed for deployed in self.applications if deployed.key == (model, number)), None)

    def with_version(self, added: Application) -> "State":
        """Return the state with a version more, in place of another of its number."""
        return State(
            (*(deployed for deployed in self.applications if deployed.key != added.key), added), self.champions
        )

    def without(self, keys: Iterable[tuple[str, str]]) -> "State":
        """Return the state without some versions."""
        gone = set(keys)
        kept = tuple(deployed for deployed in self.applications if deployed.key not in gone)
        return State(kept, {name: number for name, number in self.champions.items() if (name, number) not in gone})

    def with_champion(self, model: str, number: str) -> "State":
        """Return the state in which a version answers where a request names none."""
        return State(self.applications, {**self.champions, model: number})

    def served(self) -> dict[str, list[str]]:
        """Return the numbers by model."""
        numbers: dict[str, list[str]] = {}
        for deployed in self.applications:
            numbers.setdefault(deployed.model, []).append(deployed.version)
        return numbers


def read(place: Place) -> State:
    """Read the state; empty where nothing was deployed, or the file is damaged: the registry then says what is."""
    try:
        return msgspec.json.decode(place.state.read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return State()


def write(place: Place, state: State) -> None:
    """Write the state."""
    place.state.parent.mkdir(parents=True, exist_ok=True)
    documents.write_json(place.state, state, State)
