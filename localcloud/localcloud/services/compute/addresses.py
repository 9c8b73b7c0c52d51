"""Addresses: the pool they come from, and static ones as resources.

An instance's ephemeral address is held by the instance's record alone; both kinds come out of one subnet,
because a VM's container really gets the address it is told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import chain

from localcloud.clock import rfc3339
from localcloud.context import Context, Resource
from localcloud.errors import ApiError, already_exists, in_use, invalid_field, not_found
from localcloud.operations import Tasks
from localcloud.services.compute import paths, prices
from localcloud.services.compute.catalog import REGION_SCOPES, check_region
from localcloud.services.compute.lists import aggregated, listing
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.records import INSTANCE
from localcloud.services.compute.schema import check
from localcloud.store import Json
from localcloud.web import Call

ADDRESS = "compute.address"
_NEWEST = "compute.newest-address"
_FIRST = 10
_USED_UP = "No address is left in the local cloud's subnet {}; delete VMs or addresses, or use a larger one."

_DOWN = ("TERMINATED", "SUSPENDED")


class Addresses:
    """The endpoints of addresses, and what instances need of them."""

    def __init__(self, context: Context, operations: Operations, tasks: Tasks) -> None:
        self._context = context
        self._store = context.store
        self._operations = operations
        self._tasks = tasks
        tasks.on("address-insert", self._reserved)
        tasks.on("address-delete", self._deleted)
        context.registry.listers.append(self._lines)

    def insert(self, call: Call) -> Json:
        body = check(call.json(), "Address")
        return self._operations.once(call, lambda: self._insert(call, body))

    def _insert(self, call: Call, body: Json) -> Json:
        project = call.params["project"]
        region = check_region(project, call.params["region"])
        name = paths.check_name(body.get("name"))
        key = f"projects/{project}/regions/{region}/addresses/{name}"
        if self._store.get(ADDRESS, key) is not None:
            raise already_exists(key)
        labels = paths.check_labels(body.get("labels", {}))
        resource = {
            "addressType": body.get("addressType", "EXTERNAL"),
            "networkTier": body.get("networkTier", "PREMIUM"),
            "address": self._wanted(body["address"]) if body.get("address") else self.allocate(),
            "kind": "compute#address",
            "id": paths.new_id(),
            "creationTimestamp": rfc3339(self._context.clock.now()),
            "name": name,
            "description": body.get("description", ""),
            "status": "RESERVING",
            "region": paths.url(self._context.settings, f"projects/{project}/regions/{region}"),
            "selfLink": paths.url(self._context.settings, key),
            "labelFingerprint": paths.fingerprint(labels),
        }
        if labels:
            resource["labels"] = labels
        self._store.insert(ADDRESS, key, resource)
        return self._work(key, "insert", resource["id"])

    def _work(self, key: str, verb: str, target_id: str) -> Json:
        operation = self._operations.new(key, verb, target_id)
        made = paths.key_of(operation["selfLink"])
        self._tasks.add(key, f"address-{verb}", {"operation": made, "key": key})
        return operation

    def get(self, call: Call) -> Json:
        return self._require(_key(call))

    def list(self, call: Call) -> Json:
        project = call.params["project"]
        region = check_region(project, call.params["region"])
        documents = self._store.list(ADDRESS, f"projects/{project}/regions/{region}/")
        return listing(self._context.settings.base_url, call, "compute#address", documents)

    def aggregated(self, call: Call) -> Json:
        documents = self._store.show(ADDRESS, f"projects/{call.params['project']}/")
        return aggregated(self._context, call, "compute#address", "addresses", documents, REGION_SCOPES)

    def delete(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._delete(_key(call)))

    def _delete(self, key: str) -> Json:
        address = self._require(key)
        if address.get("users"):
            raise in_use(key, paths.key_of(address["users"][0]))
        return self._work(key, "delete", address["id"])

    def _reserved(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._context.settings.durations.operation)
        with self._store.transaction():
            address = self._store.get(ADDRESS, args["key"])
            if address is not None and address["status"] == "RESERVING":
                self._store.put(ADDRESS, args["key"], address | {"status": "RESERVED"})
            self._operations.done(args["operation"])

    def _deleted(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._context.settings.durations.operation)
        with self._store.transaction():
            address = self._store.get(ADDRESS, args["key"])
            if address is not None and address.get("users"):
                message = f"The address resource '{args['key']}' is already being used"
                self._operations.fail(args["operation"], "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", message, 400)
                return
            self._store.delete(ADDRESS, args["key"])
            self._operations.done(args["operation"])

    def allocate(self) -> str:
        """A free address of the subnet. Call it inside the transaction that stores it.

        It is the next one after the last that was given away: who comes back does not get its old one.
        """
        taken, pool = set(self._taken()), self._pool()
        newest = _number((self._store.get(_NEWEST, "") or {}).get("address", ""))
        after = pool.index(newest) + 1 if newest in pool else 0
        for number in chain(pool[after:], pool[:after]):
            candidate = str(ipaddress.ip_address(number))
            if candidate not in taken:
                self._store.put(_NEWEST, "", {"address": candidate})
                return candidate
        raise ApiError(403, "quotaExceeded", _USED_UP.format(self._context.settings.subnet))

    def attach(self, project: str, region: str, ip: str, user: str) -> str:
        """Take the static address `ip` into use by the instance `user`; returns the address's path."""
        for key, address in self._store.list(ADDRESS, f"projects/{project}/regions/{region}/"):
            if address["address"] != ip:
                continue
            if address.get("users"):
                raise in_use(key, paths.key_of(address["users"][0]))
            users = [paths.url(self._context.settings, user)]
            self._store.put(ADDRESS, key, address | {"status": "IN_USE", "users": users})
            return key
        why = f"The specified external IP address is not reserved in region '{region}'."
        raise invalid_field("resource.networkInterfaces[0].accessConfigs[0].natIP", ip, why)

    def detach(self, key: str) -> None:
        """The instance that used the address is gone."""
        address = self._store.get(ADDRESS, key)
        if address is not None:
            address.pop("users", None)
            self._store.put(ADDRESS, key, address | {"status": "RESERVED"})

    def _wanted(self, ip: str) -> str:
        if _number(ip) not in self._pool() or ip in set(self._taken()):
            raise invalid_field("resource.address", ip, "It is not a free address of the subnet.")
        return ip

    def _pool(self) -> range:
        """As numbers: a large subnet's texts would be made for every address that is given away."""
        network = ipaddress.IPv4Network(self._context.settings.subnet)
        return range(int(network.network_address) + _FIRST, int(network.broadcast_address))

    def _taken(self) -> Iterator[str]:
        yield from (address for _, address in self._store.column(ADDRESS, "address"))
        yield from (ip for _, ip in self._store.column(INSTANCE, "ip") if ip)

    def _require(self, key: str) -> Json:
        address = self._store.get(ADDRESS, key)
        if address is None:
            raise not_found(key)
        return address

    def _lines(self) -> Iterator[Resource]:
        for key, address in self._store.list(ADDRESS):
            # one that is used is charged with its instance
            hourly = 0.0 if self._runs(address) else prices.ADDRESS_UNUSED
            region = paths.last(paths.scope_of(key))
            yield Resource("address", address["name"], region, address["status"], hourly=hourly)

    def _runs(self, address: Json) -> bool:
        """Whether the instance that has it, if any, is up."""
        users = (self._store.get(INSTANCE, paths.key_of(user)) for user in address.get("users", ()))
        return any(user is not None and user["body"]["status"] not in _DOWN for user in users)


def _key(call: Call) -> str:
    part = call.params
    return f"projects/{part['project']}/regions/{part['region']}/addresses/{part['address']}"


def _number(ip: str) -> int:
    """-1 for what is no address."""
    try:
        return int(ipaddress.IPv4Address(ip))
    except ValueError:
        return -1
