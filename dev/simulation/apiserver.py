"""An API server in memory, as the operator's gateway has it: BudgetDeployments, Secrets, ConfigMaps, Events.

It keeps the promises that passes rely on: resource versions, generations, finalizers, garbage collection.
Every mutating call is in the journal and can crash before or after its effect. What a real one does is seen
where there is a real one.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from budget_operator.core.api import FINALIZER
from budget_operator.core.errors import (
    BudgetError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ResourceNotReady,
)
from budget_operator.core.gateways import Document, Named

CODE = "class Predictor:\n    def load(self): pass\n    def predict(self, request): return 1\n"


class Crash(BaseException):
    """The process dies here."""


Fault = Callable[[int, str], tuple[Literal["before", "after"], BaseException] | None]


@dataclass
class Journal:
    """Every mutating call, in order; `fault` may make one fail before or after its effect."""

    calls: list[str] = field(default_factory=list)
    fault: Fault = lambda number, call: None
    check: Callable[[], None] = lambda: None

    def mutate(self, call: str, effect: Callable[[], Any]) -> Any:
        self.calls.append(call)
        fault = self.fault(len(self.calls) - 1, call)
        if fault is not None and fault[0] == "before":
            raise fault[1]
        try:
            result = effect()
        except BudgetError:
            if fault is None:
                raise
            result = None
        self.check()
        if fault is not None:
            raise fault[1]
        return result

    def count(self, prefix: str) -> int:
        return sum(call.startswith(prefix) for call in self.calls)


@dataclass
class ApiServer:
    """`core.gateways.Kubernetes`, and what users do with kubectl."""

    clock: Callable[[], datetime]
    journal: Journal
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    secrets: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    secret_owners: dict[tuple[str, str], str] = field(default_factory=dict)  # uids
    config_maps: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    uid: str = "cluster-1"
    status_writes: int = 0
    terminating: set[str] = field(default_factory=set)  # namespaces
    refused: list[str] = field(default_factory=list)  # what should have been made in them
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    def apply(
        self, name: str, spec: dict[str, Any] | None = None, namespace: str = "default"
    ) -> dict[str, Any]:
        """Create the object or change its spec."""
        spec = {"predictor": {"inline": CODE}} if spec is None else spec
        found = self.objects.get((namespace, name))
        if found is None:
            metadata = {
                "namespace": namespace,
                "name": name,
                "uid": f"uid-{next(self._versions)}",
                "generation": 1,
                "creationTimestamp": self.clock().strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            found = self.objects[namespace, name] = {"metadata": metadata, "spec": spec}
        elif found["spec"] != spec:
            found["spec"] = spec
            found["metadata"]["generation"] += 1
        self._touch(found)
        return found

    def delete(self, name: str, namespace: str = "default") -> None:
        """Ask for deletion; the object goes with its last finalizer."""
        found = self.objects.get((namespace, name))
        if found is not None:
            found["metadata"]["deletionTimestamp"] = "now"
            self._touch(found)
            self._collect(namespace, name)

    def terminate(self, namespace: str) -> None:
        """Delete a namespace: everything in it at once, in no order, and nothing new may be made in it."""
        self.terminating.add(namespace)
        everything: tuple[dict[tuple[str, str], Any], ...] = (
            self.secrets,
            self.secret_owners,
            self.config_maps,
        )
        for held in everything:
            for key in [key for key in held if key[0] == namespace]:
                del held[key]
        for _, name in [key for key in self.objects if key[0] == namespace]:
            self.delete(name, namespace)

    def annotate(self, name: str, key: str, value: str, namespace: str = "default") -> None:
        found = self.objects[namespace, name]
        found["metadata"].setdefault("annotations", {})[key] = value
        self._touch(found)

    def status(self, name: str, namespace: str = "default") -> dict[str, Any]:
        return dict(self.objects[namespace, name].get("status", {}))

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        found = {item["type"]: item for item in self.status(name).get("conditions", ())}.get(kind)
        return ("", "", "") if found is None else (found["status"], found["reason"], found["message"])

    def _touch(self, found: dict[str, Any]) -> None:
        found["metadata"]["resourceVersion"] = str(next(self._versions))

    def _collect(self, namespace: str, name: str) -> None:
        metadata = self.objects[namespace, name]["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            del self.objects[namespace, name]

    def _live(self, document: Document) -> dict[str, Any]:
        metadata = document["metadata"]
        found = self.objects.get((metadata["namespace"], metadata["name"]))
        if found is None:
            raise NotFound("gone")
        if found["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise PreconditionFailed("stale")
        return found

    def cluster(self) -> str:
        return self.uid

    def deployment(self, namespace: str, name: str) -> Document | None:
        found = self.objects.get((namespace, name))
        return None if found is None else json.loads(json.dumps(found))

    def all_deployments(self) -> tuple[Document, ...]:
        return tuple(json.loads(json.dumps({"metadata": each["metadata"]})) for each in self.objects.values())

    def add_finalizer(self, document: Document) -> Document:
        def effect() -> Document:
            found = self._live(document)
            found["metadata"].setdefault("finalizers", []).append(FINALIZER)
            self._touch(found)
            copied: Document = json.loads(json.dumps(found))
            return copied

        added: Document = self.journal.mutate("add_finalizer", effect)
        return added

    def remove_finalizer(self, document: Document) -> None:
        def effect() -> None:
            found = self._live(document)
            found["metadata"]["finalizers"].remove(FINALIZER)
            self._touch(found)
            self._collect(found["metadata"]["namespace"], found["metadata"]["name"])

        self.journal.mutate("remove_finalizer", effect)

    def patch_status(self, document: Document, patch: Document) -> Document:
        def effect() -> Document:
            found = self._live(document)
            found["status"] = _merged(found.get("status", {}), patch)
            self._touch(found)
            self.status_writes += 1
            copied: Document = json.loads(json.dumps(found))
            return copied

        patched: Document = self.journal.mutate("patch_status", effect)
        return patched

    def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.secrets.get((namespace, name))

    def many_secrets(self, names: Sequence[Named]) -> Mapping[Named, Mapping[str, bytes] | None]:
        return {name: self.secret(*name) for name in names}

    def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.config_maps.get((namespace, name))

    def ensure_secret(
        self, namespace: str, name: str, data: Mapping[str, bytes], owner: Document | None
    ) -> Mapping[str, bytes]:
        def effect() -> None:
            if (namespace, name) in self.secrets:
                return  # somebody else was faster
            self.secrets[namespace, name] = dict(data)
            if owner is not None:
                self.secret_owners[namespace, name] = owner["metadata"]["uid"]

        if (namespace, name) not in self.secrets:
            self._check_open(namespace, f"secret {name}")
            self.journal.mutate(f"ensure_secret {name}", effect)
        uid = self.secret_owners.get((namespace, name))
        if owner is not None and uid not in (None, owner["metadata"]["uid"]):
            raise ResourceNotReady(f"Secret {name} belongs to a deployment that was deleted")
        return self.secrets[namespace, name]

    def _check_open(self, namespace: str, what: str) -> None:
        if namespace in self.terminating:
            self.refused.append(what)
            raise PermissionDenied(f"{what}: namespace {namespace} is being terminated")

    def collect_garbage(self) -> None:
        """As Kubernetes does it: some time after an object its dependents go."""
        live = {found["metadata"]["uid"] for found in self.objects.values()}
        for key in [key for key, uid in self.secret_owners.items() if uid not in live]:
            self.secrets.pop(key, None)
            del self.secret_owners[key]

    def delete_secret(self, namespace: str, name: str) -> None:
        self.journal.mutate(f"delete_secret {name}", lambda: self.secrets.pop((namespace, name), None))

    def event(
        self, document: Document, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        self.events.append((kind, reason, message))


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return json.loads(json.dumps(result))
