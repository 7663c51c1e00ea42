"""The configuration of the front: how a request finds its version, and what is answered where there is none.

Rules are those of HAProxy's `Configuration Manual 2.8 <https://docs.haproxy.org/2.8/configuration.html>`_.
"""

import json
import re
from collections.abc import Iterator

from handlers.engine import available_cores
from handlers.http import kserve
from handlers.message import InputError, Request, error_response
from serving.hosts.ray.settings import Place, RaySettings

FRONTEND, BACKEND = "marloop", "ray"
INDEX, NAMES, VERSIONS = "/v2/repository/index", "/names", "/versions/"  # keys of the map that are no models
OWN, CLIENT_ID = "x-marloop", "x-marloop-client-request-id"  # headers between the front and replicas
LATER = "the same request again, later"
_ID = "%[unique-id]"
_TYPE = "content-type application/json"


def configuration(place: Place, ray: RaySettings) -> str:
    """Return the configuration of the front of a run."""
    settings = place.settings
    address = f"[{settings.bind_address}]" if ":" in settings.bind_address else settings.bind_address
    proxies = ray.proxies.replace(",", " ").split() or [place.proxy]
    lines = [
        "global",
        "    maxconn 8000",
        f"    nbthread {min(4, available_cores())}",
        "    hard-stop-after 10s",
        f"    stats socket {place.front_socket} mode 600 level admin",
        "defaults",
        "    mode http",
        "    timeout connect 5s",
        "    timeout client 75s",
        "    timeout server 130s",
        "    timeout http-request 10s",
        "    timeout http-keep-alive 75s",
        "    option http-no-delay",
        *_pages(),
        f"frontend {FRONTEND}",
        f"    bind {address}:{settings.inference_port}",
        *_identified(),
        *_metadata(str(place.front_map)),
        *_routes(str(place.front_map)),
        f"    default_backend {BACKEND}",
        f"backend {BACKEND}",
        "    balance leastconn",
        "    option httpchk GET /-/healthz",
        "    http-check expect status 200",
        "    option redispatch 1",
        "    retries 2",
        # A proxy that was just replaced may close a connection, or answer once more on it without a new version.
        # Where a replica ends by a request, its proxy answers, and the request is not tried again.
        "    retry-on conn-failure empty-response 404",
        "    http-reuse always",
        "    default-server check inter 1s fastinter 250ms downinter 250ms fall 3 rise 1",
        *(f"    server proxy{i} {proxy}" for i, proxy in enumerate(proxies, 1)),
    ]
    return "\n".join(lines) + "\n"


def _identified() -> Iterator[str]:
    """Yield the rules for ids, for headers that only we set, and for answers that are Ray's own."""
    unavailable = InputError("overloaded", "no replica answers now", expected=LATER)
    statuses = "{ status 404 500 502 503 504 }"
    yield "    unique-id-format %[uuid]"
    yield f"    http-request del-header {CLIENT_ID}"
    yield f"    http-request set-header {CLIENT_ID} %[req.hdr(x-request-id)] if {{ req.hdr(x-request-id) -m found }}"
    yield f"    http-request set-header x-request-id {_ID}"
    yield "    http-request del-header x-request-timeout-seconds"
    yield "    http-request del-header x-request-disconnect-disabled"
    yield f"    http-after-response set-header x-request-id {_ID}"
    yield "    http-response del-header server"
    yield (
        f"    http-response return status 503 {_TYPE} hdr Retry-After 1 lf-string {_body(unavailable)} "
        f"if {statuses} !{{ res.hdr({OWN}) -m found }}"
    )
    yield f"    http-response del-header {OWN}"


def _metadata(mapping: str) -> Iterator[str]:
    """Yield the rules for what is asked about the server and all models."""
    ready = f"{{ nbsrv({BACKEND}) ge 1 }}"
    yield _return(200, "string", _quoted('{"status": "Healthy"}'), "{ path /ping }")
    yield _return(200, "string", _quoted(json.dumps(kserve.SERVER)), "{ path /v2 }")
    yield _return(200, "string", _quoted('{"live": true}'), "{ path /v2/health/live }")
    yield _return(200, "string", _quoted('{"ready": true}'), f"{{ path /v2/health/ready }} {ready}")
    yield _return(503, "string", _quoted('{"ready": false}'), "{ path /v2/health/ready }")
    for path in ("/v1/models", INDEX):
        yield _return(200, "lf-string", f"%[str({path}),map({mapping})]", f"{{ path {path} }}")


def _routes(mapping: str) -> Iterator[str]:
    """Yield the rules that find the version of a request and rewrite its path, or refuse it."""
    champion, served = f"map({mapping})", f"var(txn.key),map({mapping}) -m found"
    yield "    acl native path_beg /predictions/"
    yield "    acl kserve path_reg ^/v[12]/models/[^/]+"
    yield "    acl predicts path_reg ^/predictions/[^/]+(/[^/]+)?$"
    yield "    acl predicts path_reg ^/v1/models/.+:predict$"
    yield "    acl predicts path_reg ^/v2/models/.+/infer$"
    nothing = InputError(
        "not_found", f"there is nothing at {_sent('path')}", "url", "/predictions/MODEL, /v1/… or /v2/…"
    )
    yield _return(404, "lf-string", _body(nothing), "!native !kserve")
    yield "    http-request set-var(txn.model) path,field(3,/) if native"
    yield "    http-request set-var(txn.version) path,field(4,/) if native"
    yield "    http-request set-var(txn.model) path,field(4,/),field(1,:) if kserve"
    yield (
        "    http-request set-var(txn.version) path,field(6,/),field(1,:) if kserve "
        "{ path_reg ^/v[12]/models/[^/]+/versions/ }"
    )
    yield f"    http-request set-var(txn.number) var(txn.model),{champion}"
    no_model = InputError(
        "not_found", f"there is no model '{_sent('var(txn.model)')}' here", "url", f"%[str({NAMES}),map({mapping})]"
    )
    yield f"    http-request set-var-fmt(txn.versions) {VERSIONS}%[var(txn.model)]"
    yield from _refusals(404, no_model, f"!{{ var(txn.versions),map({mapping}) -m found }}")
    yield "    http-request set-var(txn.number) var(txn.version) if { var(txn.version) -m reg . }"
    yield "    http-request set-var-fmt(txn.key) %[var(txn.model)]/%[var(txn.number)]"
    no_version = InputError(
        "not_found",
        f"there is no version '{_sent('var(txn.number)')}' of {_sent('var(txn.model)')} here",
        "url",
        f"%[var(txn.versions),map({mapping})]",
    )
    yield from _refusals(404, no_version, f"!{{ {served} }}")
    other_method = InputError("not_found", f"{_sent('path')} takes POST", "method", "POST")
    yield from _refusals(405, other_method, "predicts !METH_POST", "hdr Allow POST ")
    yield "    http-request set-path /predictions/%[var(txn.key)]%[path] if kserve"
    yield "    http-request set-path /predictions/%[var(txn.key)] if native !{ path_reg ^/predictions/[^/]+/[^/]+ }"


def _refusals(status: int, error: InputError, condition: str, headers: str = "") -> Iterator[str]:
    """Yield the rules that refuse a request: in KServe's form at its routes, else in ours."""
    yield _return(status, "lf-string", _body(error, as_text=True), f"{condition} kserve", headers)
    yield _return(status, "lf-string", _body(error), f"{condition} !kserve", headers)


def _return(status: int, kind: str, body: str, condition: str, headers: str = "") -> str:
    return f"    http-request return status {status} {_TYPE} {headers}{kind} {body} if {condition}"


def _pages() -> Iterator[str]:
    """Yield the answers in place of HAProxy's own pages; what is no HTTP at all gets its own 400."""
    faults = {
        500: InputError("internal", "the front failed"),
        502: InputError("overloaded", "the replica ended before it answered", expected=LATER),
        503: InputError("overloaded", "no replica answers now", expected=LATER),
        504: InputError("overloaded", "no replica answered in time", expected=LATER),
    }
    for status, error in faults.items():
        retry = "hdr Retry-After 1 " if error.code == "overloaded" else ""
        body = _quoted(error_response(error, Request(b"", {})).body.decode())
        yield f"    http-error status {status} {_TYPE} {retry}string {body}"


def _body(error: InputError, as_text: bool = False) -> str:
    return _quoted(error_response(error, Request(b"", {}, {}, _ID), as_text=as_text).body.decode())


def _sent(expression: str) -> str:
    """Return the format of what a client sent, escaped for a text in JSON."""
    return f"%[{expression},json(utf8s)]"


def _quoted(text: str) -> str:
    """Return a word of the configuration, with what has a meaning in quotes escaped (2.2)."""
    escaped = re.sub(r'(["\\$])', r"\\\1", text)
    return f'"{escaped}"'
