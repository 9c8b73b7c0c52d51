"""Deterministic names and labels of everything the operator makes in the cloud, and the test of ownership.

Ownership is (installation, namespace, name), never a uid: a restored backup must recognise what it owns.
Names are at most 63 characters and differ whenever the triple differs; labels hold hashes of it. Where a
resource has no labels (firewalls, Scheduler jobs) the mark stands in `description`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

LABEL_INSTALLATION = "budgetml-installation"
LABEL_DEPLOYMENT = "budgetml-deployment"
LABEL_WANTED = "budgetml-wanted"
LABEL_SCHEDULE = "budgetml-schedule"
LABEL_MOVE = "budget-move"  # on a VM that is off: the zone that it moves to; nobody starts it meanwhile
LABEL_DELETION = "budgetml-deletion"  # whether what the object leaves behind is left on purpose
LABEL_DISK = "budgetml-disk"  # GiB of the boot disk at the VM's last boot, when its file system grew to it

RETAIN, DELETE = "retain", "delete"  # what LABEL_DELETION says

METADATA_OWNER = "budget-owner"
METADATA_CONFIG = "budget-config"
METADATA_KEY = "budget-key"
METADATA_LIMIT = "budget-limit"

KEY_LENGTH = 10  # of the hash that a deployment's names end with; its label begins with it
_NAME = re.compile(rf"budget-.*-([0-9a-f]{{{KEY_LENGTH}}})")


def digest(*parts: str, length: int = 12) -> str:
    """Lower-case hexadecimal digest of the parts; no two different tuples share an encoding."""
    encoded = json.dumps(parts, ensure_ascii=True).encode()
    return hashlib.sha256(encoded).hexdigest()[:length]


@dataclass(frozen=True, order=True)
class Owner:
    """Who a cloud resource belongs to."""

    installation: str
    namespace: str
    name: str

    @cached_property
    def cloud_name(self) -> str:
        """Name of the deployment's instance and address: `budget-<shortened name>-<hash of the triple>`."""
        short = re.sub(r"[^a-z0-9-]+", "-", self.name.lower())[:44].strip("-")
        return f"budget-{short}-{self.key}"

    @cached_property
    def key(self) -> str:
        """What all names and labels of the deployment have in common."""
        return digest(self.installation, self.namespace, self.name, length=KEY_LENGTH)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Labels that every resource of this deployment carries."""
        return {
            LABEL_INSTALLATION: digest(self.installation),
            LABEL_DEPLOYMENT: digest(self.installation, self.namespace, self.name),
        }

    def owns(self, labels: Mapping[str, str]) -> bool:
        """True if the labels are this deployment's own."""
        return all(labels.get(key) == value for key, value in self.labels.items())

    @property
    def document(self) -> str:
        """The full triple, for `budget-owner` in the instance's metadata."""
        return json.dumps(
            {"installation": self.installation, "namespace": self.namespace, "name": self.name},
            separators=(",", ":"),
        )


@dataclass(frozen=True)
class Shared:
    """Names of what all deployments of one installation share."""

    installation: str

    @cached_property
    def hash(self) -> str:
        """The installation's label value."""
        return digest(self.installation)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the shared bucket, topic and function."""
        return {LABEL_INSTALLATION: self.hash}

    def owns(self, labels: Mapping[str, str]) -> bool:
        """True if the labels are this installation's own."""
        return all(labels.get(key) == value for key, value in self.labels.items())

    @property
    def mark(self) -> str:
        """Description of what has no labels: the shared firewall and Scheduler job."""
        return json.dumps({LABEL_INSTALLATION: self.hash}, separators=(",", ":"))

    @property
    def keep_alive(self) -> str:
        """Name of the topic, the function and the Scheduler job."""
        return f"budget-keepalive-{self.hash}"

    @property
    def firewall(self) -> str:
        """Name of the firewall rule that opens 80 and 443."""
        return f"budget-https-{self.hash}"

    @property
    def network_tag(self) -> str:
        """Network tag of every instance, the firewall's target."""
        return f"budget-{self.hash}"

    def schedule_label(self, schedule: str, time_zone: str) -> str:
        """Label value by which the function finds the instances of one schedule."""
        return digest(self.installation, schedule, time_zone)


def key_of(labels: Mapping[str, str]) -> str:
    """The key of the deployment that the labels name; empty if they name none."""
    return labels.get(LABEL_DEPLOYMENT, "")[:KEY_LENGTH]


def key_in(name: str) -> str:
    """The key in a deployment's cloud name; empty if it is none that we give."""
    found = _NAME.fullmatch(name)
    return found[1] if found else ""


def region_of(zone: str) -> str:
    """`us-central1-a` -> `us-central1`."""
    return zone.rsplit("-", 1)[0]
