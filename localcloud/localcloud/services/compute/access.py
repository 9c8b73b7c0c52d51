"""An instance's access config: how it comes by an external address, takes another one, and lives without.

A record changes in the transaction of the request. A VM in Docker that is on takes its new address at its
next start; the simulated ones have it at once.
"""

from __future__ import annotations

from localcloud.errors import invalid, invalid_field
from localcloud.services.compute import creation, paths
from localcloud.services.compute.addresses import Addresses
from localcloud.services.compute.catalog import region_of
from localcloud.services.compute.records import Record
from localcloud.store import Json

DOWN = ("TERMINATED", "STOPPED")


def remove(addresses: Addresses, record: Record, interface: str, name: str) -> None:
    """A name that no access config has is no error: nothing happens then, as on Google's side."""
    nic = _interface(record, interface)
    if name not in [each["name"] for each in nic.get("accessConfigs", ())]:
        return
    del nic["accessConfigs"]
    if record.static:
        addresses.detach(record.static)
        record.static = ""
        record.ip = "" if record.status in DOWN else addresses.allocate()
    creation.show_address(record.body, record.ip)


def add(addresses: Addresses, key: str, record: Record, interface: str, asked: Json) -> None:
    """With `natIP` it is that static address, which nobody else may use; else an ephemeral one."""
    nic = _interface(record, interface)
    if nic.get("accessConfigs"):
        raise invalid("At most one access config currently supported.")
    if asked.get("natIP"):
        region = region_of(paths.last(record.body["zone"]))
        record.static = addresses.attach(paths.project_of(key), region, asked["natIP"], key)
        record.ip = asked["natIP"]
    nic["accessConfigs"] = [creation.kept_access(asked)]
    creation.show_address(record.body, record.ip)


def _interface(record: Record, name: str) -> Json:
    nic: Json = record.body["networkInterfaces"][0]
    if name != nic["name"]:
        raise invalid_field("networkInterface", name, "There is no such interface.")
    return nic
