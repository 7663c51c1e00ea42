"""``POST /alerts``: Alertmanager's webhook ("Configuration", ``webhook_config``): a model that fell is retrained."""

from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from monitoring.api.access import Access
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining, RetrainRefused

RETRAIN = "retrain"  # label of the alerts that ask for one, with the value "on"


class Alert(BaseModel):
    """One alert."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}


class Notification(BaseModel):
    """Alertmanager's message, as far as it is needed here."""

    version: Literal["4"]
    alerts: list[Alert] = Field(max_length=10_000)


class Outcome(BaseModel):
    """The outcome of one alert."""

    alert: str
    model: str | None
    outcome: Literal["queued", "refused", "ignored"]
    job: int | None = None
    detail: str


def alerts_router(retraining: Retraining, promotions: Promotions, access: Access) -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.post("/alerts", dependencies=[Depends(access)])
    def alerts(notification: Notification) -> list[Outcome]:
        """Queue a retraining for each model that an alert asks for. Do not repeat an alert, whatever its outcome."""
        outcomes: list[Outcome] = []
        for alert in notification.alerts:
            model = alert.labels.get("model")
            former = next((outcome for outcome in outcomes if outcome.job and outcome.model == model), None)
            outcomes.append(former or _outcome(retraining, promotions, alert))
        return outcomes

    return router


def _outcome(retraining: Retraining, promotions: Promotions, alert: Alert) -> Outcome:
    name, model = alert.labels.get("alertname", ""), alert.labels.get("model")
    if why := _ignored(retraining, promotions, alert):
        return Outcome(alert=name, model=model, outcome="ignored", detail=why)
    reason = f"{name}: {alert.annotations.get('summary', 'it fires')}"[:500]
    try:
        job = retraining.request(alert.labels["model"], "alert", reason)
    except RetrainRefused as error:
        return Outcome(alert=name, model=model, outcome="refused", detail=str(error))
    return Outcome(alert=name, model=model, outcome="queued", job=job.id, detail=reason)


def _ignored(retraining: Retraining, promotions: Promotions, alert: Alert) -> str | None:
    """Return why an alert asks for no retraining; None if it does."""
    labels = alert.labels
    if alert.status != "firing":
        return "it does not fire"
    if labels.get(RETRAIN) != "on" or "model" not in labels:
        return f'it has no labels {RETRAIN}="on" and model'
    # A version's rows stay in the window of the quality for days after another replaced it.
    champion = promotions.champion(labels["model"])
    if champion is not None and labels.get("version", champion) != champion:
        return f"it is about {labels['version']}, which is no longer served: {champion} is"
    return None
