"""Names of things: resource paths, own-host URLs, ids, fingerprints; what a name or label may look like."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from typing import Any

from localcloud.errors import invalid_field
from localcloud.settings import Settings
from localcloud.store import Json

PREFIX = "/compute/v1/"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
_LABEL_VALUE = re.compile(r"[-_a-z0-9]{0,63}")
_LABELS = 64


def url(settings: Settings, key: str) -> str:
    """The selfLink of the resource with this path."""
    return f"{settings.base_url}{PREFIX}{key}"


def key_of(reference: str) -> str:
    """The path of what a full URL, or a path with or without the API's prefix, refers to."""
    found = re.search(r"projects/.*", reference)
    return found.group() if found else reference


def last(reference: str) -> str:
    """The name at the end of a URL or path."""
    return reference.rstrip("/").rsplit("/", 1)[-1]


def scope_of(key: str) -> str:
    """`zones/z`, `regions/r` or `global` of `projects/p/<scope>/...`."""
    parts = key.split("/")
    return "global" if parts[2] == "global" else "/".join(parts[2:4])


def project_of(key: str) -> str:
    return key.split("/")[1]


def new_id() -> str:
    """A decimal id, as Google's: 19 digits."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def project_number(project: str) -> str:
    digest = hashlib.sha256(project.encode()).digest()
    return str(10**11 + int.from_bytes(digest[:6]) % (9 * 10**11))


def account(project: str, reference: str) -> str:
    """The address of the service account that is meant; "default" and nothing are the project's own."""
    if reference in ("", "default"):
        return f"{project_number(project)}-compute@developer.gserviceaccount.com"
    return last(reference)


def fingerprint(content: Any) -> str:
    """Changes when the content does."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def check_name(name: Any, field: str = "resource.name") -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        why = "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
        raise invalid_field(field, name, why)
    return name


def check_labels(labels: Json) -> Json:
    if len(labels) > _LABELS:
        raise invalid_field("resource.labels", len(labels), f"At most {_LABELS} labels are allowed.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise invalid_field("resource.labels", key, "Label keys must match [a-z][-_a-z0-9]{0,62}.")
        if not _LABEL_VALUE.fullmatch(value):
            raise invalid_field("resource.labels", value, "Label values must match [-_a-z0-9]{0,63}.")
    return labels
