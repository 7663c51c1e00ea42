"""How many replicas of a model a host of several machines keeps: a section of an archive's settings.

Names and meanings are those of `Ray Serve <https://docs.ray.io/en/latest/serve/autoscaling-guide.html>`_.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECTION = "autoscaling"
_COUNT, _SECONDS = (1, 10_000), (0, 86_400)
_BOUNDS: dict[str, tuple[float, float]] = {
    "min_replicas": _COUNT,
    "max_replicas": _COUNT,
    "target_ongoing_requests": (0.01, 1_000_000),
    "upscale_delay_s": _SECONDS,
    "downscale_delay_s": _SECONDS,
}
NAMES = tuple(_BOUNDS)


@dataclass(frozen=True, kw_only=True)
class Autoscaling:
    """The section; what is None, the host's settings say, and Ray Serve's defaults.

    Attributes:
        min_replicas: the fewest.
        max_replicas: the most.
        target_ongoing_requests: of each replica at a time, waiting ones too; by it their number is chosen.
        upscale_delay_s: how long there must be too few replicas until some are added, s.
        downscale_delay_s: how long there must be too many until some are ended, s.

    Raises:
        ValueError: a number is out of its range; names it.
    """

    min_replicas: int | None = None
    max_replicas: int | None = None
    target_ongoing_requests: float | None = None
    upscale_delay_s: float | None = None
    downscale_delay_s: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in self.autoscaling.items():
            low, high = _BOUNDS[name]
            whole = name.endswith("_replicas")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ValueError(f"{SECTION}.{name} is {value!r}; it must be a {'whole ' if whole else ''}number")
            if not low <= value <= high:
                raise ValueError(f"{SECTION}.{name} is {value}; it must be at least {low} and at most {high:,}")
        if self.min_replicas and self.max_replicas and self.max_replicas < self.min_replicas:
            too_few = f"{SECTION}.max_replicas is {self.max_replicas}"
            raise ValueError(f"{too_few}; it must be at least {self.min_replicas}, which is min_replicas")

    @property
    def autoscaling(self) -> dict[str, Any]:
        """The section, without what is None."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}


def autoscaling_of(config: Mapping[str, Any]) -> Autoscaling:
    """Read the section of an archive's settings.

    Raises:
        ValueError: something in it is unknown, or out of its range; says what and where.
    """
    section = config.get(SECTION) or {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{SECTION} is a {type(section).__name__}; it must be a mapping")
    if unknown := sorted(map(str, section.keys() - set(NAMES))):
        raise ValueError(f"{SECTION} has {', '.join(unknown)}; it may have {', '.join(NAMES)}")
    return Autoscaling(**section)


def with_autoscaling(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return an archive's settings with some numbers of the section changed; without the section where it is empty.

    Raises:
        ValueError: a number is unknown, or out of its range.
    """
    section = autoscaling_of({SECTION: {**(config.get(SECTION) or {}), **changes}}).autoscaling
    others = {name: value for name, value in config.items() if name != SECTION}
    return others | ({SECTION: section} if section else {})
