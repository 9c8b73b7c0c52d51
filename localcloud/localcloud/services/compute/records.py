"""What the local cloud remembers of an instance: the public resource, and the few facts behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from localcloud.errors import not_found
from localcloud.store import Json, Store

INSTANCE = "compute.instance"


@dataclass
class Record:
    """`vm` is the backend's name for it; `ip` is empty while it has no address; `static` is the path of the
    static address it uses, or empty."""

    body: Json
    vm: str
    ip: str = ""
    static: str = ""
    preempted: bool = False

    @property
    def status(self) -> str:
        status: str = self.body["status"]
        return status

    @property
    def is_spot(self) -> bool:
        return bool(self.body["scheduling"].get("preemptible"))

    def metadata(self) -> dict[str, str]:
        return {item["key"]: item.get("value", "") for item in self.body["metadata"].get("items", [])}


class Records:
    """Instances by path: `projects/p/zones/z/instances/n`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.index(INSTANCE, "ip")

    def get(self, key: str) -> Record | None:
        found = self._store.get(INSTANCE, key)
        return None if found is None else Record(**found)

    def require(self, key: str) -> Record:
        record = self.get(key)
        if record is None:
            raise not_found(key)
        return record

    def put(self, key: str, record: Record) -> None:
        self._store.put(INSTANCE, key, asdict(record))

    def delete(self, key: str) -> None:
        self._store.delete(INSTANCE, key)

    def vms(self) -> set[str]:
        """The names of all VMs."""
        return {vm for _, vm in self._store.column(INSTANCE, "vm")}

    def running(self) -> Iterator[tuple[str, Record]]:
        """Those that should run now."""
        for key, status in self._store.column(INSTANCE, "body.status"):
            record = self.get(key) if status == "RUNNING" else None
            if record is not None and record.status == "RUNNING":
                yield key, record

    def all(self, prefix: str = "") -> Iterator[tuple[str, Record]]:
        for key, found in self._store.list(INSTANCE, prefix):
            yield key, Record(**found)

    def show(self, prefix: str) -> list[tuple[str, Json]]:
        """The public resources below a path, only to be looked at."""
        return [(key, found["body"]) for key, found in self._store.show(INSTANCE, prefix)]

    def with_address(self, ip: str) -> tuple[str, Record] | None:
        found = self._store.find(INSTANCE, "ip", ip)
        return next(((key, Record(**body)) for key, body in found), None)
