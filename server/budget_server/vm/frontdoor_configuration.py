"""Caddy's configuration: who answers on 80 and 443, with which certificate; the process is in `frontdoor`.

Only what is about certificates stands in it: which generation answers is read from a file for every request,
so a switch changes nothing here. Before there is a certificate, Caddy's own authority signs for the address:
callers who ask without verification learn what goes on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from budget_server.vm.acme import Order
from budget_server.vm.settings import Settings

#: Caddy goes on to accept for a moment, then lets requests under way finish.
ACCEPT_SECONDS = 1
GRACE_SECONDS = 23
RETRY_AFTER_SECONDS = 5
#: For the head of a request, and for the TLS handshake.
HEADER_SECONDS = 10
ALIVE = {"status": "alive"}

UNREACHABLE = "The model's server does not answer at the moment. Try again soon."
ENDING = "This machine is about to go. Try again soon."

_READINESS = ["/healthz/ready", "/healthz/ready/", "/v2/health/ready", "/v2/models/*/ready"]


@dataclass(frozen=True)
class Loaded:
    """A certificate that Caddy serves and does not look after; the serial tells a new one in its place."""

    path: Path
    serial: int


@dataclass(frozen=True)
class Layout:
    """What the front door looks like at the moment."""

    address: str
    mode: Literal["Internal", "Acme", "Off"] = "Internal"
    certificates: tuple[Loaded, ...] = ()
    #: Whose certificate callers get who send no name that is known; empty: the address's.
    default: str = ""


def configuration(settings: Settings, layout: Layout, order: Order | None = None) -> dict[str, object]:
    """Caddy's whole configuration; with an order, Caddy makes it at once."""
    door = settings.door
    apps: dict[str, object] = {"http": _http(settings, layout, order)}
    if layout.mode != "Off":
        apps["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
        apps["tls"] = _tls(settings, layout, order)
    logs: dict[str, object] = {
        "default": {"level": "WARN", "encoder": {"format": "console", "level_format": "upper"}}
    }
    if order:
        logs["order"] = order.logger()
    return {
        "admin": {"listen": f"unix/{door}/admin.sock", "config": {"persist": False}},
        "logging": {"logs": logs},
        "storage": {"module": "file_system", "root": str(settings.caddy_storage)},
        "apps": apps,
    }


def _tls(settings: Settings, layout: Layout, order: Order | None) -> dict[str, object]:
    automated, policies = [], []
    if not layout.default:
        own = _own_name(layout, order)
        automated.append(own)
        policies.append({"subjects": [own], "issuers": [{"module": "internal"}]})
    if order:
        automated.append(order.subject.name)
        policies.insert(0, order.policy(settings.http_port, settings.https_port))
    files = [{"certificate": str(each.path), "key": str(each.path)} for each in layout.certificates]
    return {
        "certificates": {"automate": automated, "load_files": files},
        "automation": {"policies": policies},
    }


def _own_name(layout: Layout, order: Order | None) -> str:
    """For which Caddy's own authority signs; two authorities cannot sign for the same."""
    return "localhost" if order and order.subject.name == layout.address else layout.address


def _http(settings: Settings, layout: Layout, order: Order | None) -> dict[str, object]:
    door, http_port, https_port = settings.door, settings.http_port, settings.https_port
    if layout.mode == "Off":
        servers = {"http": _plain_server(http_port, _model_routes(door))}
    else:
        redirecting = [_alive(), _redirect(https_port)]
        servers = {
            "https": _https_server(door, https_port, layout.default or _own_name(layout, order)),
            "http": _plain_server(http_port, {"routes": redirecting}),
        }
    return {
        "http_port": http_port,
        "https_port": https_port,
        "shutdown_delay": f"{ACCEPT_SECONDS}s",
        "grace_period": f"{GRACE_SECONDS}s",
        "servers": servers,
    }


def _https_server(door: Path, port: int, default: str) -> dict[str, object]:
    return {
        "listen": [f":{port}"],
        "protocols": ["h1", "h2"],  # HTTP/3 would need UDP through two firewalls
        "read_header_timeout": f"{HEADER_SECONDS}s",
        "automatic_https": {"disable_redirects": True},
        # clients of a bare address send no server name
        "tls_connection_policies": [{"default_sni": default, "fallback_sni": default}],
        **_model_routes(door),
    }


def _plain_server(port: int, routes: Mapping[str, object]) -> dict[str, object]:
    return {
        "listen": [f":{port}"],
        "protocols": ["h1"],
        "read_header_timeout": f"{HEADER_SECONDS}s",
        "automatic_https": {"disable": True},
        **routes,
    }


def _alive() -> dict[str, object]:
    return {
        "match": [{"path": ["/healthz/live", "/healthz/live/"], "method": ["GET", "HEAD"]}],
        "handle": [_json_response(200, json.dumps(ALIVE, separators=(",", ":")))],
    }


def _redirect(https_port: int) -> dict[str, object]:
    suffix = "" if https_port == 443 else f":{https_port}"
    location = f"https://{{http.request.host}}{suffix}{{http.request.uri}}"
    # 308 keeps the method: a POST must not become a GET
    redirect = {"handler": "static_response", "status_code": "308", "headers": {"Location": [location]}}
    return {"handle": [redirect]}


def _model_routes(door: Path) -> dict[str, object]:
    """Whatever name a caller used: there is one model here."""
    # so that no connection is closed while a caller's next request is on its way through it
    leave = {
        "match": [{"protocol": "http/1.1", "vars": {"{http.shutting_down}": ["true"]}}],
        "handle": [{"handler": "headers", "response": {"set": {"Connection": ["close"]}}}],
    }
    ending = _unavailable(json.dumps(ENDING))
    # X-Forwarded-For becomes the caller's address alone, because no proxy before us is said to be trusted
    proxy = {
        "handler": "reverse_proxy",
        # `unix/` stands outside of the placeholder, else Caddy takes its content for host and port
        "upstreams": [{"dial": f"unix/{{file.{door}/current}}"}],
        "load_balancing": {"try_duration": "5s", "try_interval": "50ms"},
        "transport": {"protocol": "http", "keep_alive": {"idle_timeout": "30s"}},
    }
    unreachable = {"expression": "{http.error.status_code} in [502, 503, 504]"}
    return {
        "routes": [
            leave,
            _alive(),
            {"match": [{"path": _READINESS, **_exists(door, "ending")}], "handle": [ending]},
            {"match": [_exists(door, "current")], "handle": [proxy]},
            {"handle": [_unavailable(f"{{file.{door}/notice.json}}")]},
        ],
        "errors": {
            "routes": [{"match": [unreachable], "handle": [_unavailable(json.dumps(UNREACHABLE))]}],
        },
    }


def _exists(door: Path, name: str) -> dict[str, object]:
    return {"file": {"root": str(door), "try_files": [f"/{name}"]}}


def _unavailable(detail: str) -> dict[str, object]:
    """503 in the shape of the web side's errors; `detail` is JSON, or a placeholder for it."""

    def answer(*keys: str) -> dict[str, object]:
        # these braces are no placeholders
        body = r"\{" + ",".join(['"code":"NotReady"', *(f'"{key}":{detail}' for key in keys)]) + r"\}"
        return _json_response(503, body, {"Retry-After": [str(RETRY_AFTER_SECONDS)]})

    open_inference = {"match": [{"path": ["/v2", "/v2/*"]}], "handle": [answer("detail", "error")]}
    return {"handler": "subroute", "routes": [open_inference, {"handle": [answer("detail")]}]}


def _json_response(
    status: int, body: str, headers: Mapping[str, list[str]] = MappingProxyType({})
) -> dict[str, object]:
    return {
        "handler": "static_response",
        "status_code": str(status),
        "headers": {"Content-Type": ["application/json"], **headers},
        "body": body,
    }
