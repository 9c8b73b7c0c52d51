"""Quiet passes: over a deployment at rest, of which nothing has changed, only what must be asked is asked.

A quiet pass holds the installation, compares what it sees with what the last full pass was made of, asks the
endpoint when that is due, and changes nothing. Whatever is not as it was is left to a full pass. When a
deployment is at rest is decided by `core.quiet`.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from budget_operator.core import quiet
from budget_operator.core.artifact import CODE_PREFIX
from budget_operator.core.copied import Address
from budget_operator.core.errors import BudgetError, NotFound
from budget_operator.core.gateways import Cloud, Document, Kubernetes
from budget_operator.core.memory import Memory
from budget_operator.core.names import Owner
from budget_operator.core.observed import Content, Contents, Inventory, Listed
from budget_operator.core.quiet import Digest, Reference, Rest
from budget_operator.core.steps import Passed
from budget_operator.reconcile.ahead import FRESH, Ahead, Found, Wanted
from budget_operator.reconcile.buckets import Buckets
from budget_operator.reconcile.ownership import Ownership
from budget_operator.reconcile.probing import PROBE_EVERY
from budget_operator.reconcile.shared import Shared, Taken

Key = tuple[str, str]

# Between quiet passes, each of which looks at Secrets and ConfigMaps: until there is a newer picture, so that
# the passes of all deployments fall together with the pictures.
SHORTEST = timedelta(seconds=1)
SOON = FRESH / 2  # whoever comes by then finds what was asked for ahead


class References:
    """What a pass has read of what the spec refers to, and what it held.

    `edited`: the spec is new; `resting`: nothing about the deployment is on its way.
    """

    def __init__(self, kube: Kubernetes, buckets: Buckets, *, edited: bool, resting: bool) -> None:
        self._kube = kube
        self._buckets = buckets
        self._edited = edited
        self._resting = resting
        self.seen: dict[Reference, Digest] = {}

    def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self._note(("Secret", namespace, name), self._kube.secret(namespace, name))

    def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self._note(("ConfigMap", namespace, name), self._kube.config_map(namespace, name))

    def listed(self, address: Address) -> tuple[Listed, ...]:
        if self._edited:
            self._buckets.forget(address)
        found = self._buckets.listed(address, resting=self._resting)
        self.seen["Objects", "", address.text] = quiet.objects(found)
        return found

    def ensure_secret(
        self, namespace: str, name: str, data: Mapping[str, bytes], owner: Document | None
    ) -> Mapping[str, bytes]:
        held = self._kube.ensure_secret(namespace, name, data, owner)
        self._note(("Secret", namespace, name), held)
        return held

    def _note(self, reference: Reference, found: Mapping[str, bytes] | None) -> Mapping[str, bytes] | None:
        self.seen[reference] = quiet.content(found)
        return found


class Calm:
    """Of all deployments. Safe to share between workers, each of which has another deployment."""

    def __init__(
        self,
        kube: Kubernetes,
        cloud: Cloud,
        ownership: Ownership,
        buckets: Buckets,
        clock: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._buckets = buckets
        self._cloud = cloud
        self._ownership = ownership
        self._clock = clock
        self._rests: dict[Key, Rest] = {}
        self._woken: set[Key] = set()  # since their last full pass began
        self._seen: dict[Key, str] = {}  # each object's resourceVersion, as the watch last told
        self._coming: dict[Key, datetime] = {}  # when the next pass over each of those at rest is due
        self._planning = threading.Lock()  # guards them
        self._ahead = Ahead(kube, cloud.prober, clock)
        self._objects = Shared(self._all_objects, _list_age, clock)

    def begin(self, key: Key) -> tuple[int, bool]:
        """A full pass begins: how many in a row had found rest, and whether time alone brings this one."""
        self._woken.discard(key)
        found = self._leave(key)
        return (0, False) if found is None else (found.passes, self._clock() >= found.until)

    def rest(self, key: Key, rest: Rest, pause: timedelta) -> None:
        """A full pass found the deployment at rest: unless it was woken meanwhile, quiet ones follow, the
        first of them after that pause.
        """
        self._rests[key] = rest
        self._plan(key, pause)
        if key in self._woken:
            self.wake(key)

    def wake(self, key: Key) -> None:
        """The next pass over it is a full one."""
        self._woken.add(key)
        self._leave(key)

    def saw(self, key: Key, version: str) -> None:
        """The watch shows the object: one that is not as its last pass left it was changed by somebody."""
        self._seen[key] = version

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._leave(key)
        self._seen.pop(key, None)
        self._woken.discard(key)

    def _leave(self, key: Key) -> Rest | None:
        """It is at rest no longer, and nothing is asked ahead for it."""
        self._unplan(key)
        return self._rests.pop(key, None)

    def version(self, key: Key) -> str | None:
        """The object's resourceVersion that is known and needs no look; None if it is not at rest."""
        found = self._rests.get(key)
        return None if found is None else found.version

    def objects(self, owner: Owner, newer_than: datetime) -> Taken[Contents] | None:
        """The deployment's objects in the bucket, if the list for all was begun after that."""
        taken = self._objects.get()
        return Taken(taken.at, taken.found.get(owner.cloud_name, {})) if taken.at > newer_than else None

    def quiet_pass(self, key: Key, owner: Owner) -> Passed | None:
        """None: something is due or not as it was, so that a full pass has to be made."""
        rest = self._rests.get(key)
        if rest is None or self._clock() >= rest.until:
            return None
        try:
            inventory, left = self._cloud.snapshots.resting()
            pause = min(max(left, SHORTEST), rest.longest)
            same = self._is_same(key, owner, rest, inventory) and self._stays(key, rest, pause)
        except BudgetError:  # a full pass meets it, too, and tells
            return None
        return Passed(pause.total_seconds(), brief=True) if same else None

    def _is_same(self, key: Key, owner: Owner, rest: Rest, inventory: Inventory) -> bool:
        if not self._ownership.hold(inventory) or quiet.part(inventory, owner) != rest.part:
            return False
        if self._seen.get(key, rest.version) != rest.version:
            return False
        listed = self.objects(owner, rest.at) if rest.objects is not None else None
        return listed is None or listed.found == rest.objects

    def _stays(self, key: Key, rest: Rest, pause: timedelta) -> bool:
        """Whether what it refers to is as it was, and its endpoint answers."""
        found = self._ahead.take(key, self._soon, lambda each: self._want(each, pause))
        self._plan(key, pause)
        same = all(self._content(each, found) == known for each, known in rest.references.items())
        return same and self._answers(rest, pause, found)

    def _plan(self, key: Key, pause: timedelta) -> None:
        with self._planning:
            self._coming[key] = self._clock() + pause

    def _unplan(self, key: Key) -> None:
        """Nothing more is asked ahead for it until its next pass."""
        with self._planning:
            self._coming.pop(key, None)

    def _soon(self) -> list[Key]:
        """Those over whom a pass comes within the next seconds, or has not come yet."""
        until = self._clock() + SOON
        with self._planning:
            return [key for key, due in self._coming.items() if due <= until]

    def _want(self, key: Key, pause: timedelta) -> Wanted:
        """What a quiet pass over it would ask for now."""
        self._unplan(key)
        rest = self._rests.get(key)
        if rest is None:
            return Wanted(key, (), None)
        secrets = tuple(reference[1:] for reference in rest.references if reference[0] == "Secret")
        return Wanted(key, secrets, rest.door if self._is_due(rest.memory, pause) else None)

    def _content(self, reference: Reference, found: Found) -> Digest:
        kind, namespace, name = reference
        if kind == "Objects":
            return quiet.objects(self._buckets.listed(Address(name), resting=True))
        if kind == "Secret" and (namespace, name) in found.secrets:
            return found.secrets[namespace, name]
        read = self._kube.secret if kind == "Secret" else self._kube.config_map
        return quiet.content(read(namespace, name))

    def _is_due(self, memory: Memory, pause: timedelta) -> bool:
        """Whether the next pass would be too late to ask the endpoint."""
        return memory.probed_at is None or self._clock() + pause - memory.probed_at > PROBE_EVERY

    def _answers(self, rest: Rest, pause: timedelta, found: Found) -> bool:
        if rest.door is None or not self._is_due(rest.memory, pause):
            return True
        asked_at = self._clock() if found.probe is None else found.at
        probe = found.probe or self._cloud.prober.ready(rest.door)
        if not probe.ok or probe.revision != rest.revision:
            return False
        rest.memory.probed_at = asked_at
        return True

    def _all_objects(self) -> Mapping[str, Contents]:
        """Code by deployment: one list for all."""
        found: dict[str, dict[str, Content]] = {}
        try:
            objects = self._cloud.storage.objects(CODE_PREFIX)
        except NotFound:
            objects = {}
        for name, content in objects.items():
            found.setdefault(name.removeprefix(CODE_PREFIX).partition("/")[0], {})[name] = content
        return found


def _list_age(found: Mapping[str, Contents]) -> timedelta:
    return quiet.list_age(sum(map(len, found.values())))
