"""Looks at every change of a VM, in the middle of it: what is soon mended was wrong all the same."""

from dev.simulation import invariants
from dev.simulation.world import World
from localcloud.services.compute.records import INSTANCE


class Watch:
    """Of a world, from now on. `wrong`: two VMs that could serve; `least`: the smallest number of VMs."""

    def __init__(self, made: World) -> None:
        self._world = made
        self._noted = made.store.on_write
        self.wrong: list[str] = []
        self.least = 1
        made.store.on_write = self._note

    def _note(self, kind: str, key: str) -> None:
        self._noted(kind, key)
        if kind == INSTANCE:
            self.wrong += invariants.twins(self._world)
            self.least = min(self.least, len(self._world.store.list(INSTANCE)))
