"""The routes of the console: three pages, the parts of them that update themselves, and the buttons."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import HTMLResponse

from monitoring.api.access import Access
from monitoring.console.actions import Actions, actions_router
from monitoring.console.calls import calls_router
from monitoring.console.drift_charts import DriftCharts
from monitoring.console.form import fields, is_picture
from monitoring.console.log import read_piece
from monitoring.console.pages import Pages, assets_router
from monitoring.console.route import route_with
from monitoring.console.trial import Trial
from monitoring.console.views import ModelView, Views
from monitoring.live.drift_report import verdict
from monitoring.live.live import Live
from monitoring.store.contracts import Contracts
from monitoring.store.journal import Journal
from monitoring.store.predictions import Store
from monitoring.store.records import UNDER_WAY, Job

NEWEST = 15  # jobs and decisions on a page
STAGES = {"retraining": ("train", "judge", "shadow", "promote"), "challenge": ("judge", "shadow", "promote")}


def console_router(
    store: Store, live: Live, contracts: Contracts, access: Access, actions: Actions, trial: Trial
) -> APIRouter:
    """Return the routes; the buttons need access."""
    pages = Pages(access.needs_token)
    router = APIRouter(include_in_schema=False)
    router.include_router(assets_router(pages))
    router.include_router(calls_router(pages))
    router.include_router(
        _models(pages, Views(store.journal, live, contracts), store.journal, DriftCharts(store, live))
    )
    router.include_router(_jobs(pages, store.journal))
    router.include_router(actions_router(pages, actions, trial, contracts, access))
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
        shown = view(name)
        page = pages.render(
            "model.html",
            model=shown,
            fields=fields(shown.contract) if shown.contract else [],
            pictured=shown.contract is not None and is_picture(shown.contract),
            jobs=journal.jobs(name, limit=NEWEST),
            decisions=journal.decisions(name, limit=NEWEST),
        )
        return HTMLResponse(page)

    @router.get("/console/models/{name}/drift")
    def drift_page(name: str) -> HTMLResponse:
        contract = view(name).contract
        if contract is None:
            raise HTTPException(404, f"There is no archive of {name!r} that can be read.")
        drift, pictures = charts.of(contract)
        with_rows = [finding for finding in drift.findings if finding.rows]
        shown = list(zip(pictures, with_rows, strict=True))
        page = pages.render("drift.html", contract=contract, drift=drift, verdict=verdict(drift), charts=shown)
        return HTMLResponse(page)

    return router


def _jobs(pages: Pages, journal: Journal) -> APIRouter:
    router = APIRouter(prefix="/console/jobs", route_class=route_with(pages))

    def find(id: int) -> Job:
        try:
            return journal.job(id)
        except KeyError:
            raise HTTPException(404, f"There is no job {id}.") from None

    def parts(id: int, offset: int | None) -> dict[str, Any]:
        """Return the values of a job's page, and of its parts that update themselves."""
        job = find(id)  # before its log: the log of an ended job is complete
        active = job.state in UNDER_WAY
        state = pages.render("job_state.html", job=job, active=active, stages=STAGES[job.result.kind])
        digest = hashlib.sha256(state.encode()).hexdigest()[:16]
        return {
            "job": job,
            "active": active,
            "state": state,
            "seen": digest,
            "piece": read_piece(job.log, offset, ended=not active),
        }

    @router.get("/{id}")
    def job(id: int) -> HTMLResponse:
        return HTMLResponse(pages.render("job.html", **parts(id, None)))

    @router.get("/{id}/live")
    def live(id: int, offset: Annotated[int, Query(ge=0)] = 0, seen: str = "") -> Response:
        """Return the parts that changed since the page was shown, so that screen readers repeat nothing."""
        part = parts(id, offset)
        if part["active"] and part["seen"] == seen and not part["piece"].text:
            return Response(status_code=204)
        return HTMLResponse(pages.render("job_live.html", **part))

    return router
