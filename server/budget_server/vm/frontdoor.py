"""The front door: Caddy on 80 and 443, from boot to shutdown, reloaded only for a change of certificates.

Which generation answers stands in a small file that Caddy reads for every request, so a switch is one rename.
While that file is missing, callers get 503 with the text of another one. Whether the VM is alive it says
itself. Told to end, it is not ready any more and answers for as long as somebody asks, within bounds.
Bodies pass through as they come: what is too large or too slow is the web side's to refuse. What Caddy is
told is in `frontdoor_configuration`; a reload closes idle connections, so it must not come with a rollout.
"""

import json
import shutil
import sysconfig
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from budget_server.vm.acme import Order
from budget_server.vm.frontdoor_configuration import Layout, configuration
from budget_server.vm.plain import TRUSTS_NOBODY
from budget_server.vm.process import Child, describe_exit, log
from budget_server.vm.revisions import deaths_in_a_row, restart_pause
from budget_server.vm.settings import Settings

#: Told to end, it serves on until nobody has asked for this long, at most for that long. Only then Caddy is
#: told: some clients of HTTP/2 give up what they are waiting for when a server says goodbye.
CALM_SECONDS, SERVE_ON_SECONDS = 0.5, 10.0
#: Caddy may take that long to change to another configuration.
_RELOAD_SECONDS = 30.0

LOADING = "The model is being loaded. Try again soon."
FAILED = "The model could not be loaded; the deployment's status says why."

_POLL_SECONDS = 0.05


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

    def start(self, layout: Layout) -> None:
        """Start Caddy with this layout, and again whenever it dies."""
        path = self._settings.door / "caddy.json"
        _replace(path, json.dumps(configuration(self._settings, layout)))
        self._spawn(path)
        threading.Thread(target=self._keep, args=(path,), name="front door", daemon=True).start()

    def change(self, layout: Layout, order: Order | None = None) -> bool:
        """Go over to this layout, and make this order; whether Caddy has."""
        # what Caddy reads when it is started again holds no order: that would be a second one
        _replace(self._settings.door / "caddy.json", json.dumps(configuration(self._settings, layout)))
        headers = {"Cache-Control": "must-revalidate"}  # a file of old name may have new content
        wanted = configuration(self._settings, layout, order)
        with self._admin() as admin:
            try:
                answer = admin.post("/load", json=wanted, headers=headers, timeout=_RELOAD_SECONDS)
            except httpx.HTTPError as error:
                log(f"Caddy was not told of its certificates: {error or type(error).__name__}")
                return False
        if answer.is_error:
            log(f"Caddy refused its configuration: {answer.text.strip()}")
        return answer.is_success

    def wait_open(self) -> bool:
        """Whether Caddy answers; not if it is stopped before."""
        return self._ask("/config/") is not None

    def certificate_authority(self) -> str | None:
        """The root of Caddy's authority in PEM, once Caddy answers; None if it is stopped before."""
        answer = self._ask("/pki/ca/local")
        return None if answer is None else str(answer["root_certificate"])

    def _ask(self, path: str) -> dict[str, object] | None:
        with self._admin() as admin:
            while not self._stopping.is_set():
                try:
                    answer = admin.get(path)
                    if answer.is_success and isinstance(told := answer.json(), dict):
                        return told
                except (httpx.HTTPError, ValueError):
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
        socket = self._settings.door / "admin.sock"
        transport = httpx.HTTPTransport(verify=TRUSTS_NOBODY, uds=str(socket))
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
