"""Firewall rules: kept and checked, but enforced by the VM image's own packet filter only."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from localcloud.clock import rfc3339
from localcloud.context import Context, Resource
from localcloud.errors import already_exists, invalid_field, not_found
from localcloud.operations import Tasks
from localcloud.services.compute import paths
from localcloud.services.compute.lists import listing
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.schema import check
from localcloud.store import Json
from localcloud.web import Call

FIREWALL = "compute.firewall"
_PORTS = re.compile(r"\d{1,5}(-\d{1,5})?")
_OUTPUT_ONLY = ("kind", "id", "creationTimestamp", "selfLink")


class Firewalls:
    def __init__(self, context: Context, operations: Operations, tasks: Tasks) -> None:
        self._context = context
        self._store = context.store
        self._operations = operations
        self._tasks = tasks
        tasks.on("firewall-change", self._changed)
        tasks.on("firewall-delete", self._deleted)
        context.registry.listers.append(self._lines)

    def insert(self, call: Call) -> Json:
        body = check(call.json(), "Firewall")
        return self._operations.once(call, lambda: self._insert(call.params["project"], body))

    def _insert(self, project: str, body: Json) -> Json:
        key = f"projects/{project}/global/firewalls/{paths.check_name(body.get('name'))}"
        if self._store.get(FIREWALL, key) is not None:
            raise already_exists(key)
        given = {name: value for name, value in body.items() if name not in _OUTPUT_ONLY}
        network = paths.key_of(given.pop("network", "global/networks/default"))
        network = network if network.startswith("projects/") else f"projects/{project}/{network}"
        firewall: Json = {
            "kind": "compute#firewall",
            "id": paths.new_id(),
            "creationTimestamp": rfc3339(self._context.clock.now()),
            "selfLink": paths.url(self._context.settings, key),
            "network": paths.url(self._context.settings, network),
            "description": "",
            "direction": "INGRESS",
            "priority": 1000,
            "disabled": False,
            "logConfig": {"enable": False},
        } | given
        if firewall["direction"] == "INGRESS" and not ("sourceRanges" in given or "sourceTags" in given):
            firewall["sourceRanges"] = ["0.0.0.0/0"]
        self._store.insert(FIREWALL, key, _checked(firewall))
        return self._work(key, "insert", "firewall-change", firewall["id"])

    def patch(self, call: Call) -> Json:
        body = check(call.json(), "Firewall")
        return self._operations.once(call, lambda: self._patch(_key(call), body))

    def _patch(self, key: str, body: Json) -> Json:
        firewall = self._require(key)
        if body.get("name", firewall["name"]) != firewall["name"]:
            raise invalid_field("resource.name", body["name"], "A firewall keeps its name.")
        given = {name: value for name, value in body.items() if name not in (*_OUTPUT_ONLY, "network")}
        self._store.put(FIREWALL, key, _checked(firewall | given))
        return self._work(key, "patch", "firewall-change", firewall["id"])

    def get(self, call: Call) -> Json:
        return self._require(_key(call))

    def list(self, call: Call) -> Json:
        documents = self._store.list(FIREWALL, f"projects/{call.params['project']}/")
        return listing(self._context.settings.base_url, call, "compute#firewall", documents)

    def delete(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._delete(_key(call)))

    def _delete(self, key: str) -> Json:
        return self._work(key, "delete", "firewall-delete", self._require(key)["id"])

    def _work(self, key: str, verb: str, task: str, target_id: str) -> Json:
        operation = self._operations.new(key, verb, target_id)
        self._tasks.add(key, task, {"operation": paths.key_of(operation["selfLink"]), "key": key})
        return operation

    def _changed(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._context.settings.durations.operation)
        self._operations.done(args["operation"])

    def _deleted(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._context.settings.durations.operation)
        with self._store.transaction():
            self._store.delete(FIREWALL, args["key"])
            self._operations.done(args["operation"])

    def _require(self, key: str) -> Json:
        firewall = self._store.get(FIREWALL, key)
        if firewall is None:
            raise not_found(key)
        return firewall

    def _lines(self) -> Iterator[Resource]:
        for _, firewall in self._store.list(FIREWALL):
            yield Resource("firewall", firewall["name"], "global", "READY")


def _key(call: Call) -> str:
    return f"projects/{call.params['project']}/global/firewalls/{call.params['firewall']}"


def _checked(firewall: Json) -> Json:
    if ("allowed" in firewall) == ("denied" in firewall):
        raise invalid_field("resource.allowed", "", "Exactly one of allowed and denied must be given.")
    for source in firewall.get("sourceRanges", []):
        try:
            ipaddress.ip_network(source)
        except ValueError as error:
            raise invalid_field("resource.sourceRanges[0]", source, f"{error}.") from error
    for rule in [*firewall.get("allowed", []), *firewall.get("denied", [])]:
        if "IPProtocol" not in rule:
            raise invalid_field("resource.allowed[0].IPProtocol", "", "A protocol is required.")
        for ports in rule.get("ports", []):
            if not _PORTS.fullmatch(ports):
                raise invalid_field("resource.allowed[0].ports[0]", ports)
    return firewall
