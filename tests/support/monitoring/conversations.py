"""Captured conversations of a model that is called chat, and their events."""

from datetime import timedelta
from typing import Any

from monitoring.store.records import Prediction
from tests.support.monitoring.worlds import NOW, event


def conversation(
    request_id: str, *, version: str = "1.0", reason: str = "stop", hours: float = 0, asked: str = "", said: str = ""
) -> Prediction:
    """A conversation of one question, as it is stored; ``hours`` after ``NOW``."""
    features = {"messages": [{"role": "user", "content": asked or f"Who is {request_id}?"}]}
    output = {"content": said or "Nobody.", "finish_reason": reason}
    return Prediction(request_id, 0, "chat", version, NOW + timedelta(hours=hours), features, output)


def conversation_event(request_id: str, **data: Any) -> dict[str, Any]:
    """The event by which a worker sends it."""
    captured = conversation(request_id)
    return event(request_id, **{"model": "chat", "features": captured.features, "output": captured.output} | data)
