"""The management port: it guards TorchServe's socket and passes allowed requests on.

TorchServe obeys every caller of its management, a page in a browser among them, and runs any archive or folder that the
caller names. So its own management is a socket that no other user can open. This port requires a token, or a caller on
this machine where none is configured. It refuses pages and foreign host names, and lets TorchServe load only archives
of the registry. Whoever wants to wait for workers waits here: TorchServe itself would wait in the one thread that moves
all bytes, and answer nobody meanwhile.
"""

import contextlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIServer, make_server

import httpx
from prometheus_client.exposition import ThreadingWSGIServer

from serving.hosts.torchserve.management import SOCKET_URL, Management, ManagementError
from serving.metrics.exporter import Application, QuietHandler
from serving.registry import ArchiveError, Registry
from serving.security.callers import hostname, is_foreign_page, is_loopback

LARGEST_BODY = 65536  # bytes; a registration's
IDLE = 30  # s until a silent caller is given up
NAME = r"[A-Za-z0-9][\w.\-]{0,127}"  # of a model, and of a version
ROUTES = (  # method and path of the requests that are passed on
    r"(?:GET|OPTIONS) /",
    r"GET /api-description",
    r"(?:GET|POST) /models",
    rf"(?:GET|PUT|DELETE|OPTIONS) /models/{NAME}(?:/{NAME})?",
    rf"PUT /models/{NAME}/{NAME}/set-default",
)
# A registration's parameters, without those that name other code: handler, runtime.
REGISTRATION = {
    *("url", "model_name", "initial_workers", "synchronous", "batch_size", "max_batch_delay"),
    *("response_timeout", "startup_timeout"),
}


class Refused(Exception):
    """A request that is not passed on; the message says why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ManagementPort:
    """A WSGI application.

    Attributes:
        registry: names the archives that may be loaded.
        torchserve: a client of TorchServe's socket.
        token: callers must send it as ``Authorization: Bearer …``; empty if none is configured.
        hosts: names that callers may use for this machine, beside its addresses and ``localhost``.
    """

    registry: Registry
    torchserve: httpx.Client
    token: str = ""
    hosts: frozenset[str] = field(default_factory=frozenset)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer ``/healthz``, and any other request as TorchServe does, or with the reason why it is refused."""
        if environ["PATH_INFO"] == "/healthz":
            return _respond(start_response, HTTPStatus.OK, "text/plain", b"ok\n")
        try:
            check_caller(environ, self.token, self.hosts)
            response = self._pass_on(environ)
        except Refused as refused:
            return _explain(start_response, refused.status, str(refused))
        except httpx.HTTPError as error:
            why = f"TorchServe does not answer on its socket: {str(error) or type(error).__name__}"
            return _explain(start_response, HTTPStatus.BAD_GATEWAY, why)
        status, kind = HTTPStatus(response.status_code), response.headers.get("Content-Type", "application/json")
        return _respond(start_response, status, kind, response.content)

    def _pass_on(self, environ: dict[str, Any]) -> httpx.Response:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if not any(re.fullmatch(route, f"{method} {path}", re.ASCII) for route in ROUTES):
            raise Refused(HTTPStatus.NOT_FOUND, f"{method} {path} is not among what this port passes on")
        params = _parameters(environ)
        match method, path.split("/")[2:]:
            case "POST", []:
                params |= _members(environ)
                return self._change_workers(method, path, params, *self._check(params))
            case "PUT", [name, *number] if len(number) < 2:
                return self._change_workers(method, path, params, name, "".join(number))
        return self.torchserve.request(method, SOCKET_URL + path, params=params)

    def _change_workers(
        self, method: str, path: str, params: Mapping[str, str], name: str, number: str
    ) -> httpx.Response:
        """Register a version (POST) or scale it (PUT); where that is asked for, answer when its workers are ready.

        The answers are TorchServe's own of ``synchronous=true``. A version that does not load is removed again.
        """
        registers = method == "POST"
        waits = params.get("synchronous", "true" if registers else "false").lower() == "true"
        response = self.torchserve.request(method, SOCKET_URL + path, params={**params, "synchronous": "false"})
        if not waits or response.is_error:
            return response
        management = Management(SOCKET_URL, self.torchserve)
        try:
            workers = management.wait_until_ready(name, number)["minWorkers"]
        except ManagementError as error:
            if isinstance(error.__cause__, httpx.HTTPError):
                raise error.__cause__ from None
            if registers:
                with contextlib.suppress(ManagementError):
                    management.unregister(name, number)
            what = f"Failed to start workers for model {name} version: {number or 'null'}"
            return httpx.Response(500, json={"code": 500, "type": "InternalServerException", "message": what})
        if registers and not workers:
            return response
        what = f'Model "{name}" Version: {number} registered with {workers} initial workers'
        if not registers:
            what = f"Workers scaled to {workers} for model: {name}" + (f", version: {number}" if number else "")
        return httpx.Response(200, json={"status": what})

    def _check(self, params: Mapping[str, str]) -> tuple[str, str]:
        """Return the name and version of a registration, once its archive is verified as one of the registry."""
        if others := sorted(params.keys() - REGISTRATION):
            raise Refused(HTTPStatus.BAD_REQUEST, f"{', '.join(others)}: no such parameter of a registration here")
        archive = params.get("url", "")
        try:
            models = self.registry.models()
            registered = [
                (name, number, version)
                for name, versions in models.items()
                for number, version in versions.items()
                if version.archive == archive
            ]
            if not registered:
                raise Refused(HTTPStatus.FORBIDDEN, f"{archive!r} is no archive that the registry names")
            ((name, number, version), *_) = registered
            self.registry.verify(version)
        except ArchiveError as error:
            raise Refused(HTTPStatus.FORBIDDEN, str(error)) from error
        alias = params.get("model_name", name)
        if alias != name and (alias in models or not re.fullmatch(NAME, alias, re.ASCII)):
            raise Refused(HTTPStatus.FORBIDDEN, f"{archive} is an archive of {name} and cannot be called {alias!r}")
        return alias, number


def check_caller(environ: dict[str, Any], token: str, hosts: Iterable[str]) -> None:
    """Raise ``Refused`` unless the caller may manage TorchServe.

    A page in a browser can make any name point to this machine, so that ``Host`` must be one of ours.
    """
    host, address = environ.get("HTTP_HOST", ""), environ.get("SERVED_ADDRESS", "")
    name = hostname(host)
    if not (is_loopback(name) or name in {address, *hosts} - {""}):
        what = f"Host is {host!r}: it must be localhost, this machine's address or one of MARLOOP_MANAGEMENT_HOSTS"
        raise Refused(HTTPStatus.FORBIDDEN, what)
    if is_foreign_page(environ.get("HTTP_ORIGIN"), host, environ.get("HTTP_SEC_FETCH_SITE")):
        raise Refused(HTTPStatus.FORBIDDEN, "no page of another site may manage TorchServe")
    if token:
        authorization = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
        if not hmac.compare_digest(authorization, b"Bearer " + token.encode()):
            what = "this port needs the header Authorization: Bearer with the value of MARLOOP_TOKEN"
            raise Refused(HTTPStatus.UNAUTHORIZED, what)
    elif not is_loopback(environ.get("REMOTE_ADDR")):
        raise Refused(HTTPStatus.FORBIDDEN, "without MARLOOP_TOKEN this port answers only callers on loopback")


def server(application: Application, address: str, port: int) -> WSGIServer:
    """Return an HTTP server for the port; its ``serve_forever`` runs it.

    Raises:
        OSError: the port is taken.
    """
    return make_server(address, port, application, ThreadingWSGIServer, _Handler)


class _Handler(QuietHandler):
    """Gives up a silent caller, and adds the address at which this machine was called."""

    timeout = IDLE

    def get_environ(self) -> dict[str, Any]:
        """Add the address."""
        environ: dict[str, Any] = super().get_environ()
        return environ | {"SERVED_ADDRESS": self.connection.getsockname()[0]}


def _parameters(environ: dict[str, Any]) -> dict[str, str]:
    try:
        pairs = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=32, errors="strict")
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the query cannot be read: {error}") from error
    if len(dict(pairs)) < len(pairs):
        raise Refused(HTTPStatus.BAD_REQUEST, "a parameter stands twice in the query")
    return dict(pairs)


def _members(environ: dict[str, Any]) -> dict[str, str]:
    """Return the members of a JSON body as parameters: TorchServe accepts them there as in the query."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if environ.get("HTTP_TRANSFER_ENCODING") or not length.isdecimal() or int(length) > LARGEST_BODY:
        what = f"a body needs a Content-Length of at most {LARGEST_BODY} bytes"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
    if not (body := environ["wsgi.input"].read(int(length))):
        return {}
    try:
        members = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error}") from error
    if not isinstance(members, dict) or any(isinstance(value, dict | list) for value in members.values()):
        raise Refused(HTTPStatus.BAD_REQUEST, "the body must be an object of texts, numbers and booleans")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in members.items()
        if value is not None
    }


def _explain(start_response: Callable[..., Any], status: HTTPStatus, message: str) -> Iterable[bytes]:
    """Answer in the form of TorchServe's own errors."""
    body = json.dumps({"code": status.value, "type": status.name, "message": message}, indent=2).encode()
    return _respond(start_response, status, "application/json", body)


def _respond(start_response: Callable[..., Any], status: HTTPStatus, kind: str, body: bytes) -> Iterable[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("X-Content-Type-Options", "nosniff")]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
