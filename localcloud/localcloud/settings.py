"""How one local cloud is set up. Read from the command line in `cli`; tests build it directly."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Literal

_LOOPBACK = IPv4Network("127.0.0.0/8")


@dataclass(frozen=True)
class Durations:
    """Seconds that things take; tests make them short.

    `notice` is the longest notice of a preemption: an instance that asks for 120 s is announced this long
    before its soft-off, so that nobody has to wait two minutes for a demonstration.
    """

    provisioning: float = 0.3
    staging: float = 0.3
    operation: float = 0.1
    notice: float = 10.0
    stop_spot: float = 30.0
    stop_standard: float = 120.0
    watch: float = 1.0


GOOGLES = Durations(
    provisioning=4, staging=8, operation=2, notice=120, stop_spot=30, stop_standard=120, watch=1
)
"""About what Google takes; how long a guest then boots is its own affair."""


@dataclass(frozen=True)
class Settings:
    """`home` holds all state; `host`:`port` is where everybody (clients and VMs) reaches the server.

    `simulated-guests` are simulated VMs that answer at their addresses, on `guest_ports` (HTTP and TLS).
    `tunnel` is where a proxy to the VMs listens, if anywhere.

    Raises:
        ValueError: such VMs would have addresses that are not this machine's own.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8085
    backend: Literal["docker", "simulated", "simulated-guests"] = "simulated"
    network: str = "localcloud"
    subnet: str = "10.202.50.0/24"
    vm_image: str = "budgetml/vm:local"
    durations: Durations = field(default_factory=Durations)
    guest_ports: tuple[int, int] = (80, 443)
    tunnel: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        subnet = ip_network(self.subnet)
        if self.guests and not (isinstance(subnet, IPv4Network) and subnet.subnet_of(_LOOPBACK)):
            raise ValueError(f"simulated guests answer on loopback only: {subnet} is not inside {_LOOPBACK}")

    @property
    def guests(self) -> bool:
        """Whether simulated VMs answer."""
        return self.backend == "simulated-guests"

    @property
    def address(self) -> str:
        """`host:port`, as VMs reach the metadata server."""
        return f"{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """Without a trailing slash; every selfLink starts with it."""
        return f"http://{self.address}"
