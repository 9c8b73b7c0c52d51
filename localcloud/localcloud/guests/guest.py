"""One simulated guest: what the project's VM would be with this metadata, and what it would tell of itself.

Pure. It is at once as far as the VM gets: a boot takes no time, and a new revision serves as soon as it is in
the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CONFIG = "budget-config"
_SHARED_DOMAIN = "sslip.io"
_BOOT = ("engine", "pull", "artifact", "environment", "load", "frontDoor", "certificate")


@dataclass(frozen=True)
class Failure:
    """Why the model does not serve."""

    reason: str
    message: str


@dataclass(frozen=True)
class Guest:
    """`revision` is empty while the metadata name none: then the VM is on and has nothing to serve."""

    address: str
    deployment: str = ""
    revision: str = ""
    image: str = ""
    mode: str = "Internal"
    host: str = ""
    failure: Failure | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether it answers on the port for TLS."""
        return self.mode != "Off"

    @property
    def obstacle(self) -> str:
        """Why it is not ready; empty: it is."""
        if self.failure is not None:
            return self.failure.message
        return "" if self.revision else f"The metadata entry {_CONFIG} names no revision."

    @property
    def names(self) -> tuple[str, ...]:
        """What its certificate is for, the preferred one first."""
        if self.mode != "Acme":
            return (self.address,)
        return (self.host or f"{self.address.replace('.', '-')}.{_SHARED_DOMAIN}", self.address)


def read(address: str, metadata: Mapping[str, str], failure: Failure | None = None) -> Guest:
    """The guest of an instance with this metadata."""
    config = _document(metadata.get(_CONFIG, ""))
    tls = config.get("tls")
    tls = tls if isinstance(tls, dict) else {}
    return Guest(
        address=address,
        deployment=_text(config, "deployment"),
        revision=_text(config, "revision"),
        image=_text(config, "image"),
        mode=_text(tls, "mode") or "Internal",
        host=_text(tls, "host"),
        failure=failure,
    )


def attributes(guest: Guest, ca: str, at: int) -> dict[str, str]:
    """Its guest attributes; `ca` is told where callers need it, `at` is when it last had news."""
    if not guest.revision:
        return {}
    told = {
        "state": _compact(_state(guest, at)),
        "host": _compact({"image": guest.image, "reason": "", "message": ""}),
        "ca": ca if guest.mode == "Internal" else "",
        "certificate": _compact(_certificate(guest)),
    }
    return {f"budgetml/{key}": value for key, value in told.items()}


def _state(guest: Guest, at: int) -> dict[str, Any]:
    failure = guest.failure and {
        "revision": guest.revision,
        "reason": guest.failure.reason,
        "message": guest.failure.message,
        "log": "",
    }
    return {
        "phase": "failed" if failure else "serving",
        "target": guest.revision,
        "active": None if failure else guest.revision,
        "boot": dict.fromkeys(_BOOT, 0.0),
        "failure": failure,
        "at": at,
    }


def _certificate(guest: Guest) -> dict[str, Any]:
    return {
        "mode": guest.mode,
        "name": guest.names[0],
        "state": "Valid",
        "reason": "Issued",
        "message": "",
        "retryAt": None,
        "notAfter": None,
        "orders": 0,
    }


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _compact(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
