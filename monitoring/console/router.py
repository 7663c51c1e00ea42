"""The routes of the console: three pages, their parts that change by themselves, and the buttons."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import HTMLResponse

from monitoring.api.access import Access
from monitoring.console.actions import actions_router
from monitoring.console.calls import calls_router
from monitoring.console.drift_charts import DriftCharts
from monitoring.console.form import fields, is_picture
from monitoring.console.log import read
from monitoring.console.pages import Pages, assets_router
from monitoring.console.route import route_with
from monitoring.console.trial import Trial
from monitoring.console.views import ModelView, Views
from monitoring.live.drift_report import verdict
from monitoring.live.live import Live
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining
from monitoring.store.contracts import Contracts
from monitoring.store.journal import Journal
from monitoring.store.predictions import Store
from monitoring.store.records import UNDER_WAY, Job

NEWEST = 15  # jobs and decisions that a page lists
STAGES = ("train", "judge", "shadow", "promote")


def console_router(
    store: Store,
    live: Live,
    contracts: Contracts,
    retraining: Retraining,
    promotions: Promotions,
    access: Access,
    trial: Trial,
) -> APIRouter:
    """The routes.

    Args:
        store: has jobs, decisions and predictions.
        live: has looked at quality and drift.
        retraining: what some buttons do.
        promotions: what the others do.
        access: who may do it.
        trial: asks the service what a visitor tries out.
    """
    pages = Pages(access.needs_token)
    router = APIRouter(include_in_schema=False)
    router.include_router(assets_router(pages))
    router.include_router(calls_router(pages))
    router.include_router(
        _models(pages, Views(store.journal, live, contracts), store.journal, DriftCharts(store, live))
    )
    router.include_router(_jobs(pages, store.journal))
    router.include_router(actions_router(pages, retraining, promotions, trial, contracts, access))
    return router


def _models(pages: Pages, views: Views, journal: Journal, charts: DriftCharts) -> APIRouter:
    router = APIRouter(route_class=route_with(pages))

    def view(name: str) -> ModelView:
        try:
            return views.model(name)
        except KeyError:
            raise HTTPException(404, f"There is no model {name!r}.") from None

    @router.get("/")
    def overview() -> HTMLResponse:
        page = pages.render(
            "models.html", models=views.models(), damaged=views.damaged(), jobs=journal.jobs(limit=NEWEST)
        )
        return HTMLResponse(page)

    @router.get("/console/models/{name}")
    def model(name: str) -> HTMLResponse:
        one = view(name)
        page = pages.render(
            "model.html",
            model=one,
            fields=fields(one.contract) if one.contract else [],
            pictured=one.contract is not None and is_picture(one.contract),
            jobs=journal.jobs(name, limit=NEWEST),
            decisions=journal.decisions(name, limit=NEWEST),
        )
        return HTMLResponse(page)

    @router.get("/console/models/{name}/drift")
    def drift(name: str) -> HTMLResponse:
        contract = view(name).contract
        if contract is None:
            raise HTTPException(404, f"There is no archive of {name!r} that can be read.")
        found, drawn = charts.of(contract)
        with_rows = [one for one in found.findings if one.rows]
        shown = list(zip(drawn, with_rows, strict=True))
        return HTMLResponse(
            pages.render("drift.html", contract=contract, drift=found, verdict=verdict(found), charts=shown)
        )

    return router


def _jobs(pages: Pages, journal: Journal) -> APIRouter:
    router = APIRouter(prefix="/console/jobs", route_class=route_with(pages))

    def find(id: int) -> Job:
        try:
            return journal.job(id)
        except KeyError:
            raise HTTPException(404, f"There is no job {id}.") from None

    def parts(id: int, offset: int | None) -> dict[str, Any]:
        """What the page has of a job, and what changes in it."""
        job = find(id)  # before its log: what has ended has written all
        active = job.state in UNDER_WAY
        state = pages.render("job_state.html", job=job, active=active, stages=STAGES)
        seen = hashlib.sha256(state.encode()).hexdigest()[:16]
        return {
            "job": job,
            "active": active,
            "state": state,
            "seen": seen,
            "piece": read(job.log, offset, ended=not active),
        }

    @router.get("/{id}")
    def job(id: int) -> HTMLResponse:
        return HTMLResponse(pages.render("job.html", **parts(id, None)))

    @router.get("/{id}/live")
    def live(id: int, offset: Annotated[int, Query(ge=0)] = 0, seen: str = "") -> Response:
        """What is new since the page was shown, so that what is not new is not read out again."""
        found = parts(id, offset)
        if found["active"] and found["seen"] == seen and not found["piece"].text:
            return Response(status_code=204)
        return HTMLResponse(pages.render("job_live.html", **found))

    return router
