"""The configuration of the front: how a request finds its version, and what is answered where there is none.

Rules are those of HAProxy's `Configuration Manual 2.8 <https://docs.haproxy.org/2.8/configuration.html>`_.
"""

import json
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from handlers.engine import available_cores
from handlers.http import kserve
from handlers.message import InputError
from serving.hosts.ray.front import pages
from serving.hosts.ray.settings import Place, RaySettings

FRONTEND, BACKEND = "marloop", "ray"
READINESS = "readiness"  # the backend with a server for each model, whose check is whether the model is ready
REFUSALS = "refusals"  # the table of what was refused here
PROBE = "x-marloop-probe"  # header of those checks, which a replica answers without counting a request
INDEX, NAMES, VERSIONS = "/v2/repository/index", "/names", "/versions/"  # keys of the map that are no models
WANTED = "/wanted"  # the key of the number of models that must be ready
OWN, CLIENT_ID = "x-marloop", "x-marloop-client-request-id"  # headers between the front and replicas
CHECK = "check inter 2s fastinter 500ms downinter 500ms fall 2 rise 1"


def configuration(place: Place, ray: RaySettings, models: Collection[str] = ()) -> str:
    """Return the configuration of the front of a run.

    Args:
        models: those with a champion.
    """
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
        *pages.directives(),
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
        f"backend {READINESS}",
        "    option httpchk",
        f"    http-check send meth GET uri-lf /v2/models/%[srv_name]/ready hdr {PROBE} 1",
        "    http-check expect status 200",
        "    timeout check 10s",  # a replica that computes answers when it has done
        *(f"    server {name} {asked_at(place)} {CHECK}" for name in sorted(models)),
        f"backend {REFUSALS}",
        "    stick-table type string len 200 size 4k store gpc0",
    ]
    return "\n".join(lines) + "\n"


def asked_at(place: Place) -> str:
    """Return the address of the front's own port, at which it asks whether a model is ready, as a client does."""
    return urlsplit(place.settings.inference_url).netloc


def _identified() -> Iterator[str]:
    """Yield the rules for ids, for headers that only we set, and for answers that are Ray's own."""
    unavailable = InputError("overloaded", "no replica answers now", expected=pages.LATER)
    foreign = f"{{ status 404 500 502 503 504 }} !{{ res.hdr({OWN}) -m found }}"
    yield "    unique-id-format %[uuid]"
    yield f"    http-request del-header {CLIENT_ID}"
    yield f"    http-request set-header {CLIENT_ID} %[req.hdr(x-request-id)] if {{ req.hdr(x-request-id) -m found }}"
    yield f"    http-request set-header x-request-id {pages.ID}"
    yield f"    http-request set-var(txn.probe) str(1) if {{ req.hdr({PROBE}) -m found }}"
    yield "    http-request del-header x-request-timeout-seconds"
    yield "    http-request del-header x-request-disconnect-disabled"
    yield f"    http-after-response set-header x-request-id {pages.ID}"
    yield "    http-response del-header server"
    yield from _counted("response", 503, unavailable, foreign)
    returned = f"{pages.TYPE} hdr Retry-After 1 lf-string {pages.body_of(unavailable)}"
    yield f"    http-response return status 503 {returned} if {foreign}"
    yield f"    http-response del-header {OWN}"


def _metadata(mapping: str) -> Iterator[str]:
    """Yield the rules for what is asked about the server and all models."""
    yield _return(200, "string", pages.quoted('{"status": "Healthy"}'), "{ path /ping /health }")
    yield _return(200, "string", pages.quoted(json.dumps(kserve.SERVER)), "{ path /v2 }")
    yield _return(200, "string", pages.quoted('{"live": true}'), "{ path /v2/health/live }")
    yield f"    http-request set-var(txn.wanted) str({WANTED}),map({mapping},0),add(0) if {{ path /v2/health/ready }}"
    ready = f"{{ nbsrv({READINESS}),sub(txn.wanted) ge 0 }} {{ var(txn.wanted) -m int gt 0 }}"
    yield _return(200, "string", pages.quoted('{"ready": true}'), f"{{ path /v2/health/ready }} {ready}")
    yield _return(503, "string", pages.quoted('{"ready": false}'), "{ path /v2/health/ready }")
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
    yield "    http-request set-var(txn.protocol) str(native) if native"
    yield "    http-request set-var(txn.protocol) path,field(2,/) if kserve"
    nothing = InputError(
        "not_found", f"there is nothing at {_sent('path')}", "url", "/predictions/MODEL, /v1/… or /v2/…"
    )
    yield from _counted("request", 404, nothing, "!native !kserve")
    yield _return(404, "lf-string", pages.body_of(nothing), "!native !kserve")
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
    yield "    http-request set-var(txn.known) var(txn.model)"
    yield "    http-request set-var(txn.number) var(txn.version) if { var(txn.version) -m reg . }"
    yield "    http-request set-var-fmt(txn.key) %[var(txn.model)]/%[var(txn.number)]"
    no_version = InputError(
        "not_found",
        f"there is no version '{_sent('var(txn.number)')}' of {_sent('var(txn.model)')} here",
        "url",
        f"%[var(txn.versions),map({mapping})]",
    )
    yield from _refusals(404, no_version, f"!{{ {served} }}")
    yield "    http-request set-var(txn.serving) var(txn.number)"
    other_method = InputError("not_found", f"{_sent('path')} takes POST", "method", "POST")
    yield from _refusals(405, other_method, "predicts !METH_POST", "hdr Allow POST ")
    away = InputError("overloaded", "no proxy of Ray answers now", expected=pages.LATER)
    yield from _refusals(503, away, f"{{ nbsrv({BACKEND}) eq 0 }}", "hdr Retry-After 1 ")
    yield "    http-request set-path /predictions/%[var(txn.key)]%[path] if kserve"
    yield "    http-request set-path /predictions/%[var(txn.key)] if native !{ path_reg ^/predictions/[^/]+/[^/]+ }"


def _refusals(status: int, error: InputError, condition: str, headers: str = "") -> Iterator[str]:
    """Yield the rules that count a request and refuse it: in KServe's form at its routes, else in ours."""
    yield from _counted("request", status, error, condition)
    yield _return(status, "lf-string", pages.body_of(error, as_text=True), f"{condition} kserve", headers)
    yield _return(status, "lf-string", pages.body_of(error), f"{condition} !kserve", headers)


def _counted(stage: str, status: int, error: InputError, condition: str) -> Iterator[str]:
    """Yield the rules that count what is refused, by status, code, protocol, and by the model and version if known."""
    key = f"{status}/{error.code}/%[var(txn.protocol)]/%[var(txn.known)]/%[var(txn.serving)]"
    condition += " !{ var(txn.probe) -m found }"
    yield f"    http-{stage} set-var-fmt(txn.refusal) {key} if {condition}"
    yield f"    http-{stage} track-sc0 var(txn.refusal) table {REFUSALS} if {condition}"
    yield f"    http-{stage} sc-inc-gpc0(0) if {condition}"


def _return(status: int, kind: str, body: str, condition: str, headers: str = "") -> str:
    return f"    http-request return status {status} {pages.TYPE} {headers}{kind} {body} if {condition}"


def _sent(expression: str) -> str:
    """Return the format of what a client sent, escaped for a text in JSON."""
    return f"%[{expression},json(utf8s)]"
