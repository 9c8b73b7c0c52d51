"""The front door: Caddy on 80 and 443, from boot to shutdown, never reloaded.

Which generation answers stands in a small file that Caddy reads for every request, so a switch is one rename.
While that file is missing, callers get 503 with the text of another one. Whether the VM is alive it says
itself. Told to end, it is not ready any more and answers for as long as somebody asks, within bounds.
Bodies pass through as they come: what is too large or too slow is the web side's to refuse. Caddy's own
authority signs for the instance's address; its root lives on the volume and survives reboots.
"""

import json
import shutil
import sysconfig
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import httpx

from budget_server.vm.process import Child, describe_exit, log
from budget_server.vm.revisions import deaths_in_a_row, restart_pause
from budget_server.vm.settings import Settings

#: Told to end, it serves on until nobody has asked for this long, at most for that long. Only then Caddy is
#: told: some clients of HTTP/2 give up what they are waiting for when a server says goodbye.
CALM_SECONDS, SERVE_ON_SECONDS = 0.5, 10.0
#: Caddy goes on to accept for a moment, then lets requests under way finish.
ACCEPT_SECONDS = 1
GRACE_SECONDS = 23
RETRY_AFTER_SECONDS = 5
#: For the head of a request, and for the TLS handshake.
HEADER_SECONDS = 10
ALIVE = {"status": "alive"}

LOADING = "The model is being loaded. Try again soon."
FAILED = "The model could not be loaded; the deployment's status says why."
UNREACHABLE = "The model's server does not answer at the moment. Try again soon."
ENDING = "This machine is about to go. Try again soon."

_READINESS = ["/healthz/ready", "/healthz/ready/", "/v2/health/ready", "/v2/models/*/ready"]
_POLL_SECONDS = 0.05


def configuration(settings: Settings, address: str) -> dict[str, object]:
    """Caddy's whole configuration."""
    door = settings.door
    return {
        "admin": {"listen": f"unix/{door}/admin.sock", "config": {"persist": False}},
        "logging": {
            "logs": {"default": {"level": "WARN", "encoder": {"format": "console", "level_format": "upper"}}}
        },
        "storage": {"module": "file_system", "root": str(settings.caddy_storage)},
        "apps": {
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            "tls": {
                "certificates": {"automate": [address]},
                "automation": {"policies": [{"subjects": [address], "issuers": [{"module": "internal"}]}]},
            },
            "http": {
                "http_port": settings.http_port,
                "https_port": settings.https_port,
                "shutdown_delay": f"{ACCEPT_SECONDS}s",
                "grace_period": f"{GRACE_SECONDS}s",
                "servers": {
                    "https": _https_server(door, settings.https_port, address),
                    "http": _http_server(settings.http_port, settings.https_port),
                },
            },
        },
    }


def _https_server(door: Path, port: int, address: str) -> dict[str, object]:
    alive = {
        "match": [{"path": ["/healthz/live", "/healthz/live/"], "method": ["GET", "HEAD"]}],
        "handle": [_json_response(200, json.dumps(ALIVE, separators=(",", ":")))],
    }
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
        "listen": [f":{port}"],
        "protocols": ["h1", "h2"],  # HTTP/3 would need UDP through two firewalls
        "read_header_timeout": f"{HEADER_SECONDS}s",
        "automatic_https": {"disable_redirects": True},
        # clients of a bare address send no server name
        "tls_connection_policies": [{"default_sni": address, "fallback_sni": address}],
        "routes": [
            leave,
            alive,
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


def _http_server(port: int, https_port: int) -> dict[str, object]:
    suffix = "" if https_port == 443 else f":{https_port}"
    location = f"https://{{http.request.host}}{suffix}{{http.request.uri}}"
    # 308 keeps the method: a POST must not become a GET
    redirect = {"handler": "static_response", "status_code": "308", "headers": {"Location": [location]}}
    return {
        "listen": [f":{port}"],
        "protocols": ["h1"],
        "read_header_timeout": f"{HEADER_SECONDS}s",
        "automatic_https": {"disable": True},
        "routes": [{"handle": [redirect]}],
    }


class FrontDoor:
    """Caddy, kept running, and the two files that it reads."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = dict(environ) | {"HOME": str(settings.caddy_storage)}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._child: Child | None = None
        settings.door.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.caddy_storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        _mend_authority(settings.caddy_storage)
        self._ending = settings.door / "ending"
        self._ending.unlink(missing_ok=True)
        self.notice(LOADING)
        self.switch(None)

    def start(self, address: str) -> None:
        """Start Caddy for this address, and again whenever it dies."""
        path = self._settings.door / "caddy.json"
        path.write_text(json.dumps(configuration(self._settings, address)))
        self._spawn(path)
        threading.Thread(target=self._keep, args=(path,), name="front door", daemon=True).start()

    def certificate_authority(self) -> str | None:
        """The root of Caddy's authority in PEM, once Caddy answers; None if it is stopped before."""
        with self._admin() as admin:
            while not self._stopping.is_set():
                try:
                    answer = admin.get("/pki/ca/local")
                    if answer.is_success:
                        return str(answer.json()["root_certificate"])
                except (httpx.HTTPError, ValueError, KeyError):
                    pass
                self._stopping.wait(0.02)
        return None

    def switch(self, socket: Path | None) -> None:
        """From the next request on this socket answers; None: nothing does, callers get 503."""
        current = self._settings.door / "current"
        if socket is None:
            current.unlink(missing_ok=True)
        else:
            _replace(current, str(socket))

    def notice(self, detail: str) -> None:
        """What callers are told while nothing serves."""
        _replace(self._settings.door / "notice.json", json.dumps(detail))

    def stop(self, seconds: float) -> None:
        """Be ready no more, serve on while somebody asks, then end; at most these seconds."""
        began = time.monotonic()
        self._ending.touch()
        self._stopping.set()
        with self._lock:
            child = self._child
        if child:
            self._serve_on(began + min(SERVE_ON_SECONDS, seconds))
            child.terminate()
            if not child.wait(max(began + seconds - time.monotonic(), 0)):
                child.kill()

    def _serve_on(self, deadline: float) -> None:
        with self._admin() as admin:
            asked = time.monotonic()
            while (now := time.monotonic()) < min(deadline, asked + CALM_SECONDS):
                try:
                    upstreams = admin.get("/reverse_proxy/upstreams").raise_for_status().json()
                except (httpx.HTTPError, ValueError):
                    return  # it has ended already, or never began
                if any(upstream["num_requests"] for upstream in upstreams):
                    asked = now
                time.sleep(_POLL_SECONDS)

    def _admin(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self._settings.door / "admin.sock"))
        return httpx.Client(transport=transport, base_url="http://127.0.0.1", timeout=5)

    def _spawn(self, path: Path) -> Child | None:
        caddy = Path(sysconfig.get_path("scripts"), "caddy")
        with self._lock:
            if self._stopping.is_set():
                return None
            # of a Caddy that died or lost its power: nobody else works here, and waiting would take 10 s
            shutil.rmtree(self._settings.caddy_storage / "locks", ignore_errors=True)
            self._child = Child([str(caddy), "run", "--config", str(path)], env=self._environ)
            return self._child

    def _keep(self, path: Path) -> None:
        deaths, child, since = 0, self._child, time.monotonic()
        while child:
            child.wait(None)
            if self._stopping.is_set():
                return
            deaths = deaths_in_a_row(deaths, time.monotonic() - since)
            pause = restart_pause(deaths)
            log(f"Caddy {describe_exit(child.exit_code)}; again in {pause:.0f} s")
            self._stopping.wait(pause)
            child, since = self._spawn(path), time.monotonic()


def _mend_authority(storage: Path) -> None:
    """Remove what a power cut left of Caddy's authority: with half of one Caddy does not start.

    It writes the root, then the intermediate that it signs, and of each the certificate before the key.
    """
    place = storage / "pki/authorities/local"
    pairs = {name: [place / f"{name}.{part}" for part in ("crt", "key")] for name in ("root", "intermediate")}
    if not all(path.exists() for path in pairs["root"]):
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(storage / "certificates/local", ignore_errors=True)  # of another root
    elif not all(path.exists() for path in pairs["intermediate"]):
        for path in pairs["intermediate"]:
            path.unlink(missing_ok=True)


def _replace(path: Path, content: str) -> None:
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(content)
    beside.replace(path)  # atomic: a reader sees the old or the new content
