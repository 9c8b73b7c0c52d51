"""Guest attributes: what a VM tells about itself, through the metadata server, for the API to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from localcloud.errors import ApiError, invalid, not_found
from localcloud.store import Json, Store

GUEST = "compute.guest-attribute"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TOTAL_BYTES = 250 * 1024


class GuestAttributes:
    """Keyed `<instance path>#<namespace>/<key>`; kept until the instance is deleted.

    `tellers` speak for guests that cannot write; what was written is believed rather than them.
    """

    def __init__(self, store: Store, tellers: Sequence[Callable[[str], dict[str, str]]] = ()) -> None:
        self._store = store
        self._tellers = tellers

    def put(self, instance: str, namespace: str, key: str, value: str) -> None:
        for name in (namespace, key):
            if not _NAME.fullmatch(name):
                raise invalid(f"'{name}' is not a guest attribute's namespace or key")
        with self._store.transaction():
            others = self._written(instance)
            others.pop(f"{namespace}/{key}", None)
            size = sum(len(name) + len(text.encode()) for name, text in others.items())
            if size + len(key) + len(value.encode()) > _TOTAL_BYTES:
                raise ApiError(413, "tooLarge", f"Guest attributes may hold {_TOTAL_BYTES} bytes in all")
            self._store.put(GUEST, f"{instance}#{namespace}/{key}", {"value": value})

    def delete(self, instance: str, namespace: str, key: str) -> bool:
        return self._store.delete(GUEST, f"{instance}#{namespace}/{key}")

    def all(self, instance: str) -> dict[str, str]:
        """Values by `namespace/key`."""
        told = {name: value for teller in self._tellers for name, value in teller(instance).items()}
        return told | self._written(instance)

    def _written(self, instance: str) -> dict[str, str]:
        prefix = f"{instance}#"
        return {key.removeprefix(prefix): body["value"] for key, body in self._store.list(GUEST, prefix)}

    def forget(self, instance: str) -> None:
        for key, _ in self._store.list(GUEST, f"{instance}#"):
            self._store.delete(GUEST, key)

    def query(self, instance: str, query_path: str, variable_key: str) -> Json:
        """`queryPath` is `namespace/` or `namespace/key`, `variableKey` names one as `namespace/key`."""
        values = self.all(instance)
        wanted = variable_key or query_path
        chosen = {
            name: value
            for name, value in values.items()
            if name == wanted
            or (not variable_key and name.startswith(wanted.rstrip("/") + "/" if wanted else ""))
        }
        if not chosen:
            raise not_found(f"{instance}/guestAttributes/{wanted}")
        if variable_key:
            return {"variableKey": variable_key, "variableValue": chosen[variable_key]}
        items = [_item(name, value) for name, value in sorted(chosen.items())]
        return {"queryPath": query_path, "queryValue": {"items": items}}


def _item(name: str, value: str) -> Json:
    namespace, key = name.split("/", 1)
    return {"namespace": namespace, "key": key, "value": value}


def enabled(metadata: dict[str, str]) -> bool:
    return metadata.get("enable-guest-attributes", "").upper() == "TRUE"
