"""The parts of Compute Engine's generated client that are used: nine of its hundred and more services.

The package imports them all, for 23 MiB and a second and a half; its modules can be imported without it.
Imported only where compute is used: what is left still takes two seconds.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

_PACKAGE = "google.cloud.compute_v1"


def _stand_in() -> ModuleType | None:
    """What lets the package's modules be found; None if somebody has imported all of it."""
    spec = None if _PACKAGE in sys.modules else find_spec(_PACKAGE)
    if spec is None:
        return None
    made = ModuleType(_PACKAGE)
    made.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[_PACKAGE] = made
    return made


_stood_in = _stand_in()

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

if _stood_in is not None:  # whoever wants the whole package gets it
    del sys.modules[_PACKAGE]

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
