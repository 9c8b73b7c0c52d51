"""Where callers reach a deployment and whose certificate they get: spec and settings resolved. Pure.

The certificate itself is the VM's business; what it tells of that is judged in `serving`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from budget_operator.core.api import Spec
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.settings import Settings

Mode = Literal["Acme", "Internal", "Off"]
SHARED_DOMAIN = "sslip.io"
_ADDRESS = re.compile(r"[0-9.]+")


@dataclass(frozen=True)
class Tls:
    """The endpoint's TLS as it is to be. `ca_bundle` is PEM, `directory` a URL; empty: Let's Encrypt."""

    mode: Mode = "Internal"
    host: str = ""
    email: str = ""
    directory: str = ""
    ca_bundle: str = ""

    def document(self) -> Mapping[str, str]:
        """As the VM reads it."""
        return {
            "mode": self.mode,
            "host": self.host,
            "email": self.email,
            "directory": self.directory,
            "caBundle": self.ca_bundle,
        }

    def names(self, ip: str) -> tuple[str, ...]:
        """What the VM may serve under, the preferred one first."""
        if self.mode != "Acme":
            return (ip,)
        return (self.host,) if self.host else (f"{re.sub('[.:]', '-', ip)}.{SHARED_DOMAIN}", ip)

    def url(self, ip: str, told: str = "") -> str:
        """The public URL; the name that the VM tells counts only where it may be one."""
        names = self.names(ip)
        scheme = "http" if self.mode == "Off" else "https"
        return f"{scheme}://{told if told in names else names[0]}"


INTERNAL = Tls()


def tls_of(settings: Settings, spec: Spec) -> Tls:
    """The deployment's TLS: what the spec leaves out comes from the installation.

    Raises:
        InvalidSpec: a field that its mode would ignore.
    """
    own = spec.endpoint.tls
    mode = own.mode or settings.tls_mode
    if mode != "Acme":
        given = {
            "host": spec.endpoint.host,
            "tls.email": own.email,
            "tls.directory": own.directory,
            "tls.caBundle": own.ca_bundle,
        }
        for name, value in given.items():
            if value:
                raise InvalidSpec(
                    f"spec.endpoint.{name} is of use with spec.endpoint.tls.mode Acme only, and the mode is "
                    f"{mode}: set the mode, or leave {name} out"
                )
        return Tls(mode)
    elsewhere = own.directory is not None  # what is trusted for one directory is not for another
    return Tls(
        mode,
        normal_host(spec.endpoint.host or ""),
        own.email or settings.acme_email,
        own.directory or settings.acme_directory,
        own.ca_bundle or ("" if elsewhere else settings.acme_ca_bundle),
    )


def kept(url: str, ca: str) -> Tls:
    """The TLS behind a status, for a spec that cannot be read."""
    scheme, _, name = url.partition("://")
    if scheme == "http":
        return Tls("Off")
    if not url or (ca and _ADDRESS.fullmatch(name)):
        return Tls()
    return Tls("Acme", name, ca_bundle=ca)


def normal_host(host: str) -> str:
    """Lower case, without the final dot."""
    return host.lower().removesuffix(".")
