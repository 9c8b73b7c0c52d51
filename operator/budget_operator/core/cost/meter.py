"""From what is seen of VMs and addresses to stretches that are paid for: also of what nobody looked at.

A VM tells when it was made, and when it was started and stopped last. What happened between that and the last
look is in the project's operations, which Google keeps for two weeks; `unclear` says whose have to be read.
What cannot be known counts as running: the figures may be too high then, never too low. Machines are charged
for from start to stop, disks from when their VM is made until it is deleted, addresses as long as they are
reserved.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from budget_operator.core.cost.stretches import Book, Part, Stretch, ordered
from budget_operator.core.names import region_of
from budget_operator.core.observed import UNCHARGED, Address, Instance, PowerEvent, PowerKind
from budget_operator.core.prices.model import PriceList

#: Within so much time a VM is not stopped, started and stopped again.
SURE = timedelta(minutes=2)
#: From when Google tells that it takes a VM away until that is off, at most.
NOTICE = timedelta(seconds=150)
#: Two services tell the same moment up to so much apart.
SKEW = timedelta(seconds=5)


@dataclass(frozen=True)
class Sight:
    """What of one deployment is there."""

    now: datetime
    instances: tuple[Instance, ...] = ()
    addresses: tuple[Address, ...] = ()
    whole: bool = True  # what is not in it is not there
    events: Mapping[str, tuple[PowerEvent, ...]] = field(default_factory=dict)  # of VMs, by id

    def telling(self, events: Mapping[str, tuple[PowerEvent, ...]]) -> "Sight":
        """With what happened to some VMs."""
        return replace(self, events=events)


@dataclass(frozen=True)
class Run:
    """Of a VM; without an end it runs."""

    began: datetime
    ended: datetime | None


def unclear(book: Book, sight: Sight, horizon: datetime) -> dict[str, datetime]:
    """The VMs, by id, of which the sight alone does not tell how long they ran; and since when not."""
    found: dict[str, datetime] = {}
    for vm in sight.instances:
        known, last = _last_known(book, vm.id, vm.created, horizon), vm.started_at
        if last is None:
            continue
        if known.run is not None and known.run.began == last:
            # A start that failed may have moved it: then it is later than when the VM was off.
            last = _end(vm, last, sight.now, ())
        elif _knows(book, vm.id, last):
            continue
        if last is not None and last - known.at > SURE:
            found[vm.id] = known.at
    if sight.whole:
        there = {vm.id for vm in sight.instances}
        for gone in sorted(_open_ids(book, (Part.MACHINE, Part.DISK)) - there):
            known = _last_known(book, gone, None, horizon)
            if sight.now - known.at > SURE:
                found[gone] = known.at
    return found


def metered(book: Book, sight: Sight, prices: PriceList, horizon: datetime) -> Book:
    """The book with everything that is seen; nothing from before the horizon."""
    page = _Page(book, sight.now, horizon)
    for vm in sight.instances:
        _meter_vm(page, vm, sight, prices)
    for address in sight.addresses:
        found = prices.regions.get(address.region)
        rate = None if found is None else found.address.unused
        began = address.created or page.began(Part.ADDRESS, _of(address)) or sight.now
        page.put(_Priced(Part.ADDRESS, _of(address), f"in {address.region}", rate), Run(began, None))
    if sight.whole:
        _close_what_is_gone(page, sight)
    return page.book()


def _of(address: Address) -> str:
    return f"{address.region}/{address.name}"


def _meter_vm(page: "_Page", vm: Instance, sight: Sight, prices: PriceList) -> None:
    region = region_of(vm.zone)
    rates = prices.rates(region, vm.machine_type, vm.provisioning or "", vm.disk_gib)
    what = f"{vm.machine_type} {vm.provisioning or vm.provisioning_model} in {region}"
    machine = _Priced(Part.MACHINE, vm.id, what, None)
    disk = _Priced(Part.DISK, vm.id, f"{vm.disk_gib} GiB in {region}", None)
    if rates is not None:
        machine = replace(machine, rate=rates.machine, address_rate=rates.address)
        disk = replace(disk, rate=rates.disk)
    for run in _runs(page, vm, sight):
        page.put(machine, run)
    made = vm.created or page.began(Part.DISK, vm.id) or sight.now
    page.put(disk, Run(made, None))


def _runs(page: "_Page", vm: Instance, sight: Sight) -> Iterator[Run]:
    """Those since the last look, the one that the VM tells of last."""
    began = vm.started_at
    if began is None:
        if vm.status not in UNCHARGED:
            yield Run(page.began(Part.MACHINE, vm.id) or vm.created or sight.now, None)
        return
    known = _last_known(page.book(), vm.id, vm.created, page.horizon)
    if (known.run is None or known.run.began != began) and not _knows(page.book(), vm.id, began):
        yield from _between(known, sight.events.get(vm.id, ()), began, vm.stopped_at)
    yield Run(began, _end(vm, began, sight.now, sight.events.get(vm.id, ())))


def _end(vm: Instance, began: datetime, now: datetime, events: Iterable[PowerEvent]) -> datetime | None:
    """Of the last run: the earliest that is known, since none of them is earlier than it was."""
    stopped = vm.stopped_at is not None and vm.stopped_at >= began
    if not stopped and vm.status not in UNCHARGED:
        return None
    told = [_off(each) for each in events if each.kind is not PowerKind.ON and each.at > began]
    return min([*told, vm.stopped_at if stopped and vm.stopped_at is not None else now])


def _off(event: PowerEvent) -> datetime:
    return event.at + (NOTICE if event.kind is PowerKind.TAKEN else timedelta(0))


@dataclass(frozen=True)
class _Known:
    """The last look at a VM: when, and the run that it was in."""

    at: datetime
    run: Run | None


def _last_known(book: Book, of: str, created: datetime | None, horizon: datetime) -> _Known:
    of_it = [each for each in book if each.of == of and each.part is Part.MACHINE]
    if not of_it:
        return _Known(max(created or horizon, horizon), None)
    last = max(of_it, key=lambda each: (each.until, each.open))
    return _Known(last.until, Run(last.began, None) if last.open else None)


def _knows(book: Book, of: str, began: datetime) -> bool:
    return any(each.part is Part.MACHINE and (each.of, each.began) == (of, began) for each in book)


def _between(
    known: _Known, events: Iterable[PowerEvent], until: datetime, last_stop: datetime | None
) -> list[Run]:
    """From the last look to a moment at which the VM was off."""
    runs, going = _replayed(known, [each for each in events if each.at < until - SKEW])
    if going is not None:
        runs.append(Run(going, until))
    if runs and last_stop is not None and runs[-1].began < last_stop <= until:
        runs[-1] = Run(runs[-1].began, min(last_stop, runs[-1].ended or last_stop))
    return runs


def _replayed(known: _Known, events: Iterable[PowerEvent]) -> tuple[list[Run], datetime | None]:
    """The runs that the events tell of, and when the one began that went on."""
    runs: list[Run] = []
    going = None if known.run is None else known.run.began
    for event in sorted(events, key=lambda each: each.at):
        if event.kind is PowerKind.ON:
            if going is None and event.at > known.at:
                runs[-1:] = [Run(each.began, min(each.ended or event.at, event.at)) for each in runs[-1:]]
                going = event.at
        elif going is not None and event.at > going:
            end = _off(event)
            # It may have been seen running after that was told.
            runs.append(Run(going, max(end, known.at) if going == _began(known) else end))
            going = None
    return runs, going


def _began(known: _Known) -> datetime | None:
    return None if known.run is None else known.run.began


def _open_ids(book: Book, parts: tuple[Part, ...]) -> set[str]:
    return {each.of for each in book if each.open and each.part in parts}


def _close_what_is_gone(page: "_Page", sight: Sight) -> None:
    there = {vm.id for vm in sight.instances}
    for of in sorted(_open_ids(page.book(), (Part.MACHINE, Part.DISK)) - there):
        events = sight.events.get(of, ())
        known = _last_known(page.book(), of, None, page.horizon)
        runs, going = _replayed(known, events)
        gone = [each.at for each in events if each.kind is PowerKind.GONE and each.at > known.at]
        last = min(gone, default=sight.now)
        page.repeat(of, [*runs, *([] if going is None else [Run(going, last)])])
        page.close(Part.DISK, of, last)
    for of in _open_ids(page.book(), (Part.ADDRESS,)) - {_of(each) for each in sight.addresses}:
        page.close(Part.ADDRESS, of, sight.now)


@dataclass(frozen=True)
class _Priced:
    """What a stretch is of, at the price of today."""

    part: Part
    of: str
    what: str
    rate: float | None
    address_rate: float | None = None

    def same(self, stretch: Stretch) -> bool:
        """Whether the stretch may go on."""
        return (self.what, self.rate, self.address_rate) == (stretch.what, stretch.rate, stretch.address_rate)


class _Page:
    """A book while it is written in."""

    def __init__(self, book: Book, now: datetime, horizon: datetime) -> None:
        self._stretches = {each.key: each for each in book}
        self._now = now
        self.horizon = horizon

    def book(self) -> Book:
        """As it is now."""
        return ordered(self._stretches.values())

    def began(self, part: Part, of: str) -> datetime | None:
        """When the open one did."""
        return next((each.began for each in self._of(part, of) if each.open), None)

    def put(self, priced: _Priced, run: Run) -> None:
        """It was there, and is still where the run has no end."""
        same = []
        for each in self._of(priced.part, priced.of):
            if each.began == run.began:
                same.append(each)
            elif each.open and each.began < run.began:  # it is another one by now
                self._set(replace(each, until=max(each.since, run.began), open=False))
        last = same[-1] if same else None
        if last is not None and last.open and run.ended is not None:
            self._set(replace(last, until=max(last.since, run.ended), open=False))
        elif last is not None and last.open:
            self._go_on(last, priced)
        elif last is None:
            self._begin(priced, run, max(run.began, self.horizon))
        elif run.ended is None:
            self._begin(priced, run, self._now)

    def _go_on(self, last: Stretch, priced: _Priced) -> None:
        now = max(self._now, last.until)
        if priced.same(last) or (priced.what == last.what and priced.rate is None):
            self._set(replace(last, until=now))
        elif priced.what == last.what and last.rate is None:  # the first price that is known
            first = replace(last, rate=priced.rate, address_rate=priced.address_rate)
            self._set(replace(first, until=now))
        else:
            self._set(replace(last, until=now, open=False))
            self._begin(priced, Run(last.began, None), now)

    def _begin(self, priced: _Priced, run: Run, since: datetime) -> None:
        until = max(since, self._now) if run.ended is None else run.ended
        if run.ended is None or until > since:
            self._set(
                Stretch(
                    part=priced.part,
                    of=priced.of,
                    began=run.began,
                    since=since,
                    until=until,
                    open=run.ended is None,
                    what=priced.what,
                    rate=priced.rate,
                    address_rate=priced.address_rate,
                )
            )

    def repeat(self, of: str, runs: Iterable[Run]) -> None:
        """Runs of a VM that is gone, at the prices of the last one that is known."""
        found = self._of(Part.MACHINE, of)
        for run in runs if found else ():
            last = found[-1]
            self.put(_Priced(last.part, of, last.what, last.rate, last.address_rate), run)

    def close(self, part: Part, of: str, at: datetime) -> None:
        """It is not there any more."""
        for each in self._of(part, of):
            if each.open:
                self._set(replace(each, until=max(each.since, at), open=False))

    def _of(self, part: Part, of: str) -> list[Stretch]:
        found = [each for each in self._stretches.values() if (each.part, each.of) == (part, of)]
        return sorted(found, key=lambda each: each.since)

    def _set(self, stretch: Stretch) -> None:
        self._stretches[stretch.key] = stretch
