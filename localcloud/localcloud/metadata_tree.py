"""What a VM may know about itself, as the tree of names and values that the metadata server shows. Pure."""

from __future__ import annotations

from typing import Any

from localcloud import accounts
from localcloud.services.compute import paths
from localcloud.services.compute.records import Record
from localcloud.store import Json


def tree(instance: str, record: Record, guest: dict[str, str]) -> Json:
    """Directories are objects and lists of objects; `guest` are the guest attributes by `namespace/key`."""
    project = paths.project_of(instance)
    number = paths.project_number(project)
    return {
        "instance": _instance(instance, record, f"projects/{number}") | {"guest-attributes": _nested(guest)},
        "project": {
            "attributes": {},
            "numeric-project-id": int(number),
            "project-id": project,
        },
        "universe": {"universe-domain": "googleapis.com"},
    }


def _instance(key: str, record: Record, project: str) -> Json:
    body, place = record.body, paths.scope_of(key)
    interface = body["networkInterfaces"][0]
    external = [
        {"external-ip": access.get("natIP", ""), "type": access["type"]}
        for access in interface.get("accessConfigs", [])
    ]
    name, scheduling = body["name"], body["scheduling"]
    return {
        "attributes": record.metadata(),
        "cpu-platform": body["cpuPlatform"],
        "description": body.get("description", ""),
        "disks": [_disk(each) for each in body["disks"]],
        "hostname": body.get("hostname") or f"{name}.{paths.last(place)}.c.{paths.project_of(key)}.internal",
        "id": int(body["id"]),
        "image": "",
        "machine-type": f"{project}/machineTypes/{paths.last(body['machineType'])}",
        "maintenance-event": "NONE",
        "name": name,
        "network-interfaces": [
            {
                "access-configs": external,
                "ip": interface.get("networkIP", ""),
                "network": f"{project}/networks/{paths.last(interface['network'])}",
            }
        ],
        "preempted": "TRUE" if record.preempted else "FALSE",
        "scheduling": {
            "automatic-restart": str(scheduling["automaticRestart"]).upper(),
            "on-host-maintenance": scheduling["onHostMaintenance"],
            "preemptible": str(record.is_spot).upper(),
        },
        "service-accounts": _service_accounts(body, paths.project_of(key)),
        "tags": Tags(body["tags"].get("items", ())),
        "zone": f"{project}/{place}",
    }


def _disk(attached: Json) -> Json:
    return {
        "device-name": attached["deviceName"],
        "index": attached["index"],
        "interface": attached["interface"],
        "mode": attached["mode"],
        "type": attached["type"],
    }


def _service_accounts(body: Json, project: str) -> Json:
    """An instance that was inserted without an account has none, and so no token."""
    if not body.get("serviceAccounts"):
        return {}
    asked = body["serviceAccounts"][0]
    email = paths.account(project, asked.get("email", ""))
    account = {
        "aliases": ["default"],
        "email": email,
        "scopes": asked.get("scopes", []),
        "token": Token(email),
    }
    return {"default": account, email: account}


class Tags(list[str]):
    """Network tags: other lists are printed line by line, this one only if text is asked for."""


class Token(dict[str, Any]):
    """An access token: a JSON leaf that recursive answers leave out."""

    def __init__(self, account: str) -> None:
        super().__init__(accounts.token(account))


def _nested(values: dict[str, str]) -> Json:
    tree: Json = {}
    for name, value in values.items():
        namespace, key = name.split("/", 1)
        tree.setdefault(namespace, {})[key] = value
    return tree
