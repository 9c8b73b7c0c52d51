"""What a deployment would make and cost, told before anything is made; `plan_command` reads the file."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from budget_operator.core import budget, changes
from budget_operator.core.api import Spec
from budget_operator.core.budget import Terms
from budget_operator.core.names import Owner, Shared
from budget_operator.core.prices.forecast import Forecast
from budget_operator.core.prices.model import HOURS_A_MONTH, PriceList

CHEAPER_SHOWN = 5
DAYS = HOURS_A_MONTH / 24
_WIDTH = 12


@dataclass(frozen=True)
class Preview:
    """Of one deployment; `unchecked` is what its file refers to without holding it."""

    owner: Owner
    spec: Spec
    zones: tuple[str, ...]  # empty: some zone of the region, as it was chosen for its price
    region: str
    bucket: str
    forecast: Forecast | None
    terms: Terms | None = None  # of its budget
    unchecked: tuple[str, ...] = ()


def lines(preview: Preview, prices: PriceList, today: date) -> Iterator[str]:
    """The text for people."""
    yield f"BudgetDeployment {preview.owner.namespace}/{preview.owner.name}"
    yield ""
    yield from _made(preview)
    yield ""
    yield from _cost(preview, prices, today)
    yield ""
    yield from _changes()
    for note in preview.unchecked:
        yield ""
        yield f"Not checked: {note}"


def _made(preview: Preview) -> Iterator[str]:
    owner, machine = preview.owner, preview.spec.machine
    shared = Shared(owner.installation)
    first, *others = preview.zones or (f"a zone of {preview.region}",)
    where = f"{first}, else {', '.join(others)}" if others else first
    yield "Would be made, and goes when the object is deleted:"
    yield _row("VM", f"{owner.cloud_name}: {machine.type}, {machine.provisioning}, in {where}")
    yield _row("disk", f"{machine.disk_gib} GiB, balanced, with the VM")
    yield _row("address", f"{owner.cloud_name}, static, in {preview.region}")
    yield _row("code", f"objects in {preview.bucket} below code/{owner.cloud_name}/")
    yield "Once for the installation, with its first deployment:"
    yield _row("keep-alive", f"{shared.keep_alive}: Scheduler job, topic, function")
    yield _row("others", f"{preview.bucket}, firewall rule for ports 80 and 443")


def _cost(preview: Preview, prices: PriceList, today: date) -> Iterator[str]:
    told = preview.forecast
    if told is None:
        machine = preview.spec.machine
        yield (
            f"What it costs is not known: there is no price of {machine.type} ({machine.provisioning}) in"
            f" {preview.region} in {prices.source}."
        )
        return
    yield "A month, in US dollars, if it runs all the time:"
    for part in ("machine", "disk", "address"):
        yield _row(part, _dollars(getattr(told.running, part)))
    yield _row("together", _dollars(told.running.total) + _beside(preview.spec, told))
    given_back = preview.spec.endpoint.host is None
    goes_on = "disk goes on, the address is given back" if given_back else "disk and reserved address go on"
    yield _row("VM off", f"{_dollars(told.stopped)}   {goes_on}")
    if preview.terms is not None:
        yield _row("budget", _dollars(preview.terms.budget.dollars) + _lasts(preview.terms))
    yield from prices.note(today)
    yield ""
    yield from _elsewhere(preview.spec, told)


def _lasts(terms: Terms) -> str:
    share = budget.months_share(terms)
    pays = "pays for the whole month" if share >= 1 else f"pays for {share * DAYS:.1f} days of {DAYS:.1f}"
    return (
        f"   {pays}" if terms.budget.on_exceeded == "Stop" else f"   {pays}; then it is told, and it runs on"
    )


def _beside(spec: Spec, told: Forecast) -> str:
    if spec.machine.provisioning == "Standard" or told.on_demand is None:
        return ""
    return f"   on demand {told.on_demand:.2f}"


def _elsewhere(spec: Spec, told: Forecast) -> Iterator[str]:
    if not told.cheaper:
        yield f"No region that is known is cheaper for {spec.machine.type}."
        return
    yield f"Cheaper for {spec.machine.type}, where a zone has it:"
    for each in told.cheaper[:CHEAPER_SHOWN]:
        saved = told.running.total - each.total
        yield f"  {each.region:<26}{_dollars(each.total)}   {-saved:+.2f}"


def _changes() -> Iterator[str]:
    yield "Changing a field later:"
    for effect, fields in changes.by_effect().items():
        yield _row(effect, f"{changes.MEANINGS[effect]}: {', '.join(fields)}")


def _row(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}"


def _dollars(amount: float) -> str:
    return f"{amount:8.2f}"
