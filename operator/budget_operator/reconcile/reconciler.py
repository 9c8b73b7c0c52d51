"""Which kind of pass a deployment gets: a quiet one, a full one, or one towards its end. Knows no client.

`Reconciler.reconcile` is called by the queue's workers, never twice at once for the same deployment. The
kinds are in `calm`, `one_pass` and `deletion`; here is what outlives a pass, or is left of one that failed.
"""

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

from budget_operator.core import trail
from budget_operator.core.api import FINALIZER
from budget_operator.core.desired import Parts
from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Document, Kubernetes
from budget_operator.core.memory import Memory, pause_after
from budget_operator.core.names import Owner
from budget_operator.core.settings import Settings
from budget_operator.core.steps import Passed
from budget_operator.reconcile import observe
from budget_operator.reconcile.buckets import Buckets
from budget_operator.reconcile.calm import Calm
from budget_operator.reconcile.common import Common
from budget_operator.reconcile.deletion import Deletion
from budget_operator.reconcile.execution import Means
from budget_operator.reconcile.offers import Offers
from budget_operator.reconcile.one_pass import Pass
from budget_operator.reconcile.ownership import Ownership
from budget_operator.reconcile.sharing import Sharing

log = logging.getLogger(__name__)

BOOT = Path(__file__).resolve().parents[1] / "boot"


def _untold(_key: tuple[str, str]) -> None:
    """The default of `lengthens`."""


def load_parts(settings: Settings) -> Parts:
    """The files that are the same for every deployment."""
    source = settings.function_source
    names = sorted(path.name for path in source.iterdir() if path.suffix in (".py", ".txt"))
    return Parts(
        startup_script=(BOOT / "startup.sh").read_text(),
        shutdown_script=(BOOT / "shutdown.sh").read_text(),
        function_files={name: (source / name).read_bytes() for name in names},
    )


class Reconciler:
    """Holds what passes share, and the memories of deployments."""

    def __init__(
        self, settings: Settings, kube: Kubernetes, means: Means, parts: Parts | None = None
    ) -> None:
        ownership = Ownership(settings, kube, means.cloud, means.clock, means.wall)
        buckets = Buckets(means.cloud.storage, settings.bucket, means.clock)
        self.common = Common(
            settings=settings,
            kube=kube,
            means=means,
            parts=load_parts(settings) if parts is None else parts,
            offers=Offers(means.cloud.compute, means.clock),
            ownership=ownership,
            buckets=buckets,
            calm=Calm(kube, means.cloud, ownership, buckets, means.clock),
            sharing=Sharing(),
        )
        self._memories: dict[tuple[str, str], Memory] = {}
        # Its names are digests, which every pass would make anew.
        self._owner = lru_cache(maxsize=4096)(partial(Owner, settings.installation))

    def wake(self, namespace: str, name: str) -> None:
        """Something was heard of the object: the next pass over it is a full one."""
        self.common.calm.wake((namespace, name))

    def saw(self, namespace: str, name: str, version: str) -> None:
        """The watch shows the object in this version, whoever wrote it."""
        self.common.calm.saw((namespace, name), version)

    def is_current(self, document: Document) -> bool:
        """Whether nothing has to be done about an object because it is as its last pass left it."""
        metadata = document["metadata"]
        known = self.common.calm.version((metadata["namespace"], metadata["name"]))
        return known is not None and known == metadata["resourceVersion"]

    def remembered(self) -> frozenset[tuple[str, str]]:
        """The objects that the last passes over them have found."""
        return frozenset(list(self._memories))

    def reconcile(
        self,
        namespace: str,
        name: str,
        *,
        quiet: bool = False,
        lengthens: Callable[[tuple[str, str]], None] = _untold,
    ) -> Passed:
        """One pass. `quiet`: only time has brought it, so that it need not be a full one; `lengthens` hears
        of it when it has to be."""
        key = (namespace, name)
        memory = self._memories.get(key)
        if memory is not None and memory.generation is not None:
            trail.read(memory.generation)
        if quiet and memory is not None:
            passed = self._spared(key, memory)
            if passed is not None:
                return passed
        lengthens(key)
        try:
            document = self.common.kube.deployment(namespace, name)
            passed = Passed(None) if document is None else self._begun(key, document, quiet=quiet)
        except BudgetError as error:
            return Passed(self._failed(key, error), ok=False)
        if passed.after is None:
            self._memories.pop(key, None)
            self.common.calm.forget(key)
        elif not passed.waits:
            self._memories[key].failures = 0
        return passed

    def _spared(self, key: tuple[str, str], memory: Memory) -> Passed | None:
        """What may stand for a full pass: a quiet one, or to come again once the picture is there."""
        return self._awaiting(memory) or self.common.calm.quiet_pass(key, self._owner(*key))

    def _awaiting(self, memory: Memory) -> Passed | None:
        """Where the picture that it needs is being taken: looks again about when that is there."""
        newest = observe.newest(memory, self.common.means.clock())
        pause = self.common.means.cloud.snapshots.awaited(newest)
        return None if pause is None else Passed(pause.total_seconds(), waits=True, brief=True)

    def _begun(self, key: tuple[str, str], document: Document, *, quiet: bool) -> Passed:
        """Of many new ones each is seen at once, and the next picture serves them all."""
        memory = self._memory(key, document)
        awaiting = self._awaiting(memory) if quiet else None
        return awaiting or self._pass(document, memory)

    def _pass(self, document: Document, memory: Memory) -> Passed:
        metadata = document["metadata"]
        trail.read(int(metadata.get("generation", 1)))
        owner = self._owner(metadata["namespace"], metadata["name"])
        marked = FINALIZER in metadata.get("finalizers", ())
        if metadata.get("deletionTimestamp"):
            if not marked:
                return Passed(None)
            common = self.common
            deletion = Deletion(common.kube, common.means, common.settings, common.ownership, owner, memory)
            return deletion.run(document, common.sharing.alone)
        return Pass(self.common, document, owner, memory).run()

    def _memory(self, key: tuple[str, str], document: Document) -> Memory:
        uid = document["metadata"].get("uid", "")
        memory = self._memories.get(key)
        if memory is None or memory.uid != uid:
            memory = self._memories[key] = Memory(uid, self.common.means.clock())
        return memory

    def _failed(self, key: tuple[str, str], error: BudgetError) -> float:
        """The pass could not come to its end, not even to a status: only the log and a pause are left."""
        memory = self._memories.setdefault(key, Memory("", self.common.means.clock()))
        memory.failures += 1
        pause = pause_after(error, memory.failures, self.common.means.jitter())
        log.warning("%s/%s: %s; again in %.0f s", *key, error.message, pause)
        return pause
