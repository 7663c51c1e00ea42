"""Counts of the requests that this host answers before they are in a batch: in no worker of a model would they be told.

A request that a model's URL names is counted by that model's own instruments, since two counters of one series in a
process overwrite each other. The others are counted here: by the name of a model alone, or by none.
"""

from prometheus_client import CollectorRegistry, Counter

from handlers.observe.telemetry import ERRORS, MODEL, REQUESTS
from serving.hosts.direct.models import Models, Table
from serving.hosts.direct.routes import behind_version, model_of, protocol_of


class Refusals:
    """Counts in ``model_requests_total`` and ``model_input_errors_total``; every label comes from a closed set.

    Args:
        registry: owner of the counters.
    """

    def __init__(self, models: Models, registry: CollectorRegistry) -> None:
        self._models = models
        self._requests = Counter(*REQUESTS, (*MODEL, "protocol", "code"), registry=registry)
        self._errors = Counter(*ERRORS, (*MODEL, "reason"), registry=registry)

    def count(self, path: str, status: int, reason: str, name: str = "") -> None:
        """Count an answer.

        Args:
            reason: code of the error.
            name: of the language model, where a body named it.
        """
        table, protocol = self._models.table, protocol_of(path)
        target = table.targets.get(path) or behind_version(table.targets, path)[0]
        if target is not None:
            if instruments := target.model.instruments:
                instruments.refused(protocol, status, reason)
            return
        model, version = model_and_version(table, path, name)
        labels = {"model": model, "version": version}
        self._requests.labels(**labels, protocol=protocol, code=str(status)).inc()
        if 400 <= status < 500:
            self._errors.labels(**labels, reason=reason).inc()


def model_and_version(table: Table, path: str, name: str = "") -> tuple[str, str]:
    """Return what a path names that predicts nothing here, both from a closed set; empty where it names none.

    Args:
        name: of the language model, where a body named it.
    """
    name = name or model_of(path)
    if name in table.elsewhere:
        contracts = table.elsewhere[name]
        return name, next((number for number in contracts if number in path.split("/")), next(iter(contracts), ""))
    return (name, "") if name in table.models else ("", "")  # the version is none that is served
