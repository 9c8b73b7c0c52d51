"""Asks the endpoint and the VM: when requests are due, which ones, and what is remembered of them.

What the answers mean is decided by `serving`.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from budget_operator.core.api import Spec, Status
from budget_operator.core.conditions import Type, is_true
from budget_operator.core.endpoint import Tls
from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Cloud, Door
from budget_operator.core.memory import Memory
from budget_operator.core.observed import GuestReport, Instance, Probe
from budget_operator.core.serving import Glimpse, active_revision

PROBE_EVERY = timedelta(seconds=60)
# How often a deployment in motion, or one that does not answer, is looked at: the first so many seconds, then
# rarer.
PACES = ((180.0, 5.0), (600.0, 10.0))
SLOWEST_PACE = 30.0


def motion_pause(memory: Memory, now: datetime, *, moving: bool, ready: bool) -> float:
    """Seconds to the next look; remembers since when something moves.

    An endpoint that does not answer any more is asked often, too. While it is called Ready that may be a lie:
    the pace slows down only once the conditions have told it. A VM that has just come up is a new beginning.
    """
    failing = memory.failing_since
    if not moving and failing is None:
        memory.motion_since = None
        return SLOWEST_PACE
    if memory.motion_since is None or (ready and failing is not None):
        memory.motion_since = now
    elapsed = (now - max(memory.motion_since, failing or memory.motion_since)).total_seconds()
    return next((pause for until, pause in PACES if elapsed < until), SLOWEST_PACE)


class Probing:
    """Of one pass over one deployment. `image` is the one that should run; empty: any."""

    def __init__(
        self,
        cloud: Cloud,
        memory: Memory,
        clock: Callable[[], datetime],
        before: Status,
        image: str,
        tls: Tls,
    ) -> None:
        self._cloud = cloud
        self._memory = memory
        self._clock = clock
        self._before = before
        self._image = image
        self._tls = tls
        self._unread: BudgetError | None = None  # why the VM's report could not be read

    def look(
        self,
        *,
        instance: Instance | None,
        boot: str,
        running: bool | None,
        ip: str | None,
        target: str | None,
        spec: Spec | None,
        token: str,
    ) -> Glimpse:
        """Make the requests that are due. `boot` tells one boot of the instance from another."""
        tls, ca = self._tls, self._trusted()
        memory, now = self._memory, self._clock()
        url = "" if ip is None else tls.url(ip, (self._before.endpoint or "").partition("://")[2])
        if running is False or ip is None:
            memory.failing_since = memory.probed_at = memory.host = None
            known = None if running is None else False  # without an address nobody can be asked
            return Glimpse(running=known, due=False, target=target, ca=ca, tls=tls, url=url)
        if instance is not None and memory.boot != boot:
            memory.boot, memory.host = boot, None
        settled = self._settled(target) and self._image_settled() and url == self._before.endpoint
        if settled and memory.probe_ok and memory.probed_at and now - memory.probed_at < PROBE_EVERY:
            return Glimpse(running=running, due=False, target=target, ca=ca, tls=tls, url=url)
        can_verify = bool(ca) or tls.mode != "Internal"
        asking = not settled or not can_verify or (memory.probed_at is not None and not memory.probe_ok)
        report = self._report(instance) if asking else None
        if report is not None and tls.mode == "Internal":
            ca = report.ca_certificate or ca
        if report is not None:
            url = tls.url(ip, report.certificate.name or url.partition("://")[2])
        door = Door(url, ip, ca, public=tls.mode == "Acme")
        memory.token = token or memory.token  # while the login cannot be read, the VM knows the last one
        memory.door = door
        ready = self._cloud.prober.ready(door) if ca or tls.mode != "Internal" else None
        glimpse = Glimpse(
            running=running,
            due=True,
            target=target,
            ca=ca,
            tls=tls,
            url=url,
            image=self._image,
            host=memory.host,
            report=report,
            unread=self._unread,
            ready=ready,
            prediction=self._prediction(door, ready, report, spec, boot),
            failure_seconds=float(spec.readiness.failure_seconds) if spec is not None else 60.0,
        )
        return self._remembered(glimpse, instance if asking else None)

    def _trusted(self) -> str:
        """Whom callers trust as far as it is known: the VM's own authority is told by the VM."""
        own = self._before.ca_certificate or ""
        return own if self._tls.mode == "Internal" else self._tls.ca_bundle

    def _settled(self, target: str | None) -> bool:
        conditions = self._before.conditions
        serves = is_true(conditions, Type.MODEL_SERVING) and is_true(conditions, Type.CERTIFICATE_VALID)
        return serves and (target is None or self._before.revision.active == target)

    def _image_settled(self) -> bool:
        """Since its boot the VM has said that it runs the wanted image, or that it does not tell."""
        host = self._memory.host
        if host is None or host.reason:
            return False
        return not self._image or host.image in (self._image, None)

    def _prediction(
        self,
        door: Door,
        ready: Probe | None,
        report: GuestReport | None,
        spec: Spec | None,
        boot: str,
    ) -> Probe | None:
        """A real prediction, whenever another revision or another boot answers than before."""
        memory = self._memory
        if ready is None or not ready.ok or spec is None or spec.readiness.payload is None:
            return None
        active = ready.revision or (report.active if report is not None else None)
        known = is_true(self._before.conditions, Type.MODEL_SERVING) and memory.predicted == boot
        if not memory.token or (known and active in (None, self._before.revision.active)):
            return None
        found = self._cloud.prober.predict(door, memory.token, dict(spec.readiness.payload))
        memory.predicted = boot if found.ok else None
        return found

    def _remembered(self, glimpse: Glimpse, instance: Instance | None) -> Glimpse:
        memory, now = self._memory, self._clock()
        memory.probed_at, memory.probe_ok = now, glimpse.ok
        if glimpse.ok:
            memory.failing_since = None
            active = active_revision(self._before, glimpse)
            if instance is None or active != glimpse.target or self._settled(active):
                return glimpse
            # The seconds of the boot are told after the switch: the first report may be older than it.
            report = self._report(instance) or glimpse.report
            return replace(glimpse, report=report, host=memory.host)
        memory.failing_since = memory.failing_since or now
        failing = (now - memory.failing_since).total_seconds()
        return replace(glimpse, failing_seconds=failing)

    def _report(self, instance: Instance | None) -> GuestReport | None:
        if instance is None:
            return None
        try:
            report = self._cloud.compute.guest_report(instance.zone, instance.name)
        except BudgetError as error:
            self._unread = error
            return None
        self._memory.host = report.host
        return report
