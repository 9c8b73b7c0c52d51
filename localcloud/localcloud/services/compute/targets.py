"""Which resource an operation was asked for: its name may have gone over to another one meanwhile.

Google's operations name their target by id (`targetId` of compute v1's Operation), and leave alone what was
made under the same name afterwards.
"""

from __future__ import annotations

from localcloud.services.compute import paths
from localcloud.services.compute.addresses import ADDRESS
from localcloud.services.compute.disks import DISK
from localcloud.services.compute.firewalls import FIREWALL
from localcloud.services.compute.operations import OPERATION, Operations
from localcloud.services.compute.records import INSTANCE
from localcloud.store import Json, Store

_KINDS = {"instances": INSTANCE, "addresses": ADDRESS, "disks": DISK, "firewalls": FIREWALL}


class Targets:
    """Ends the operations whose target is not there any more."""

    def __init__(self, store: Store, operations: Operations) -> None:
        self._store = store
        self._operations = operations

    def is_over(self, args: Json) -> bool:
        """Of a task's `operation`: it is done, or has nothing left to do.

        What another one than a deletion means where nothing has the name, its task says.
        """
        if self._operations.is_over(args):
            return True
        operation = self._store.get(OPERATION, args["operation"])
        if operation is None:
            return False
        holder = self._holder(paths.key_of(operation["targetLink"]))
        if holder == operation["targetId"]:
            return False
        if operation["operationType"] == "delete":
            self._operations.done(args["operation"])
            return True
        if holder is None:
            return False
        message = f"The resource '{paths.key_of(operation['targetLink'])}' was not found"
        self._operations.fail(args["operation"], "RESOURCE_NOT_FOUND", message, 404)
        return True

    def _holder(self, key: str) -> str | None:
        """The id of what has the name now."""
        found = self._store.get(_KINDS[key.split("/")[-2]], key)
        if found is None:
            return None
        identity: str = found.get("body", found)["id"]
        return identity
