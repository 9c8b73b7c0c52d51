"""What quiet passes that fall due together ask for, asked for many of them at once.

At rest every deployment's Secret is read, and its endpoint asked, once a minute; with thousands of them the
way there and back costs more of the processor than all that is done with the answers. So the first of them
asks for those that come next as well. What could not be had like this each of them asks for alone.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from budget_operator.core import quiet
from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Door, Kubernetes, Named, Prober
from budget_operator.core.observed import Probe
from budget_operator.core.quiet import Digest

MOST = 50  # deployments at once: none of them waits long for the others
FRESH = timedelta(seconds=10)  # what was not used by then is asked for again


@dataclass(frozen=True)
class Wanted:
    """By one deployment's next quiet pass."""

    deployment: Named
    secrets: tuple[Named, ...]
    door: Door | None  # None: it need not be asked now


@dataclass(frozen=True)
class Found:
    """For one deployment, and when. What is missing could not be had."""

    at: datetime
    secrets: Mapping[Named, Digest]
    probe: Probe | None


class Ahead:
    """Safe to share between workers: one asks at a time, and the others wait for what it finds."""

    def __init__(self, kube: Kubernetes, prober: Prober, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._prober = prober
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[Named, Found] = {}

    def take(
        self, deployment: Named, others: Callable[[], Iterable[Named]], want: Callable[[Named], Wanted]
    ) -> Found:
        """What was found for a deployment, which is used once; `others` are those whose passes come soon, in
        whatever order."""
        with self._lock:
            now = self._clock()
            found = self._found.pop(deployment, None)
            if found is None or now - found.at >= FRESH:
                self._found = {name: each for name, each in self._found.items() if now - each.at < FRESH}
                new = (each for each in others() if each not in self._found and each != deployment)
                self._look([want(deployment), *map(want, islice(new, MOST - 1))], now)
                found = self._found.pop(deployment)
        return found

    def _look(self, wanted: Sequence[Wanted], now: datetime) -> None:
        secrets = self._read({name for each in wanted for name in each.secrets})
        probes = self._prober.many_ready([each.door for each in wanted if each.door is not None])
        for each in wanted:
            held = {name: secrets[name] for name in each.secrets if name in secrets}
            probe = None if each.door is None else probes.get(each.door)
            self._found[each.deployment] = Found(now, held, probe)

    def _read(self, names: set[Named]) -> Mapping[Named, Digest]:
        """A failure is met, and told, by whoever asks alone."""
        try:
            found = self._kube.many_secrets(sorted(names)) if names else {}
        except BudgetError:
            return {}
        return {name: quiet.content(held) for name, held in found.items()}
