"""The buttons: retrain, challenge, promote, roll back, cancel, try a model; each from the console's own page alone."""

import contextlib
from collections.abc import Iterator
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.responses import HTMLResponse

from monitoring.api.access import Access
from monitoring.api.body import body_of
from monitoring.console.form import FormError, parse
from monitoring.console.pages import Pages
from monitoring.console.route import route_with
from monitoring.console.trial import LARGEST, Trial
from monitoring.retraining.challenge import Challenges
from monitoring.retraining.promotions import PromotionRefused, Promotions
from monitoring.retraining.queue import Retraining, RetrainRefused
from monitoring.store.contracts import Contracts
from serving.hosts.host import LaunchError
from serving.registry import ArchiveError

WHO = "console"  # in the audit
LONGEST_REASON = 200  # characters
REFUSALS: dict[type[Exception], int] = {
    RetrainRefused: 409,
    PromotionRefused: 409,
    ArchiveError: 409,
    KeyError: 404,
    LaunchError: 503,
}


class Actions(NamedTuple):
    """The parts of the loop that the buttons act on."""

    retraining: Retraining
    challenges: Challenges
    promotions: Promotions


def from_the_console(
    hx_request: Annotated[str | None, Header()] = None, authorization: Annotated[str | None, Header()] = None
) -> None:
    """Let a call pass that has a header which a form of another site cannot send; else raise a 403.

    A browser sends such a header to another site only after a preflight request (the Fetch standard, "CORS-preflight
    fetch"), which the monitor refuses.
    """
    if hx_request is None and authorization is None:
        what = "This call must come from the console's own page, or have the header Authorization."
        raise HTTPException(403, what)


async def limited_body(request: Request) -> bytes:
    """Return the body; raise a 413 as soon as it is longer than TorchServe accepts."""
    return await body_of(request, LARGEST)


def actions_router(pages: Pages, actions: Actions, trial: Trial, contracts: Contracts, access: Access) -> APIRouter:
    """Return the routes; each needs access, and a call from the console's own page."""
    guards = [Depends(access), Depends(from_the_console)]
    router = APIRouter(prefix="/console", route_class=route_with(pages), dependencies=guards)

    def confirm(sentence: str) -> HTMLResponse:
        return HTMLResponse(
            pages.render("message.html", kind="done", sentence=sentence), headers={"HX-Trigger": "changed"}
        )

    @router.post("/models/{name}/retrain")
    def retrain(name: str, form: Annotated[dict[str, str], Depends(typed)]) -> HTMLResponse:
        reason = form.get("reason", "").strip()[:LONGEST_REASON] or "asked for in the console"
        with _refusals():
            job = actions.retraining.request(name, "hand", reason)
        return HTMLResponse("", headers={"HX-Redirect": f"/console/jobs/{job.id}"})

    @router.post("/models/{name}/versions/{number}/challenge")
    def challenge(name: str, number: str) -> HTMLResponse:
        with _refusals():
            job = actions.challenges.request(name, number, "asked for in the console")
        return HTMLResponse("", headers={"HX-Redirect": f"/console/jobs/{job.id}"})

    @router.post("/models/{name}/versions/{number}/promote")
    def promote(name: str, number: str) -> HTMLResponse:
        with _refusals():
            actions.promotions.promote(name, number, WHO)
        return confirm(f"{name} {number} is champion now.")

    @router.post("/models/{name}/rollback")
    def rollback(name: str) -> HTMLResponse:
        with _refusals():
            number = actions.promotions.rollback(name, WHO)
        return confirm(f"{name} went back to {number}, which is champion again.")

    @router.post("/jobs/{id}/cancel")
    def cancel(id: int) -> HTMLResponse:
        with _refusals():
            actions.retraining.cancel(id)
        return confirm(f"Job {id} is being cancelled.")

    @router.post("/models/{name}/try")
    def try_it(name: str, request: Request, body: Annotated[bytes, Depends(limited_body)]) -> HTMLResponse:
        contract = contracts.of(name)
        if contract is None:
            raise HTTPException(404, f"There is no archive of {name!r} that can be read.")
        result = trial.ask(contract, request.headers.get("content-type", ""), body)
        return HTMLResponse(pages.render("answer.html", result=result, contract=contract), result.status)

    return router


def typed(body: Annotated[bytes, Depends(limited_body)]) -> dict[str, str]:
    """Return the fields of a form; raise a 422 if it is none."""
    try:
        return parse(body)
    except FormError as error:
        raise HTTPException(422, str(error)) from None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn refusals of the loop into faults of the page."""
    try:
        yield
    except tuple(REFUSALS) as error:
        status = next(code for kind, code in REFUSALS.items() if isinstance(error, kind))
        raise HTTPException(status, str(error.args[0])) from error
