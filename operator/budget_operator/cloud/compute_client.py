"""The parts of Compute Engine's generated client that are used: nine of its hundred and more services.

The package imports them all, for 42 MiB and up to a second; its modules can be imported without it.
Imported only where compute is used: what is left takes a second.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

_PACKAGE = "google.cloud.compute_v1"


def _leave_the_rest() -> None:
    """Lets the package's modules be imported; the package itself is, once somebody asks it for something."""
    spec = None if _PACKAGE in sys.modules else find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return
    loader, package = spec.loader, module_from_spec(spec)

    def load(name: str) -> Any:
        if name.startswith("__") or find_spec(f"{_PACKAGE}.{name}"):
            raise AttributeError(name)  # a module of it: whoever asks imports that
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = load
    sys.modules[_PACKAGE] = package


_leave_the_rest()

from google.cloud.compute_v1 import types  # noqa: E402
from google.cloud.compute_v1.services.addresses import AddressesClient  # noqa: E402
from google.cloud.compute_v1.services.disks import DisksClient  # noqa: E402
from google.cloud.compute_v1.services.firewalls import FirewallsClient  # noqa: E402
from google.cloud.compute_v1.services.global_operations import GlobalOperationsClient  # noqa: E402
from google.cloud.compute_v1.services.instances import InstancesClient  # noqa: E402
from google.cloud.compute_v1.services.machine_types import MachineTypesClient  # noqa: E402
from google.cloud.compute_v1.services.region_operations import RegionOperationsClient  # noqa: E402
from google.cloud.compute_v1.services.zone_operations import ZoneOperationsClient  # noqa: E402
from google.cloud.compute_v1.services.zones import ZonesClient  # noqa: E402

__all__ = [
    "AddressesClient",
    "DisksClient",
    "FirewallsClient",
    "GlobalOperationsClient",
    "InstancesClient",
    "MachineTypesClient",
    "RegionOperationsClient",
    "ZoneOperationsClient",
    "ZonesClient",
    "types",
]
