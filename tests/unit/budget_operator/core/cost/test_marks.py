"""What a VM notes of itself is read with care."""

from datetime import UTC, datetime

from budget_operator.core.cost import marks
from budget_operator.core.observed import PowerEvent, PowerKind


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_lines_of_the_vm_are_read_and_nothing_else() -> None:
    noted = b"41 on 50\n42 on 100\n42 off 160\n42 sleeps 170\n42 on -5\n42 on 99999999999\n\xff\n42 on"
    assert marks.read(noted, "42") == (
        PowerEvent(at(100), PowerKind.ON),
        PowerEvent(at(160), PowerKind.OFF),
        PowerEvent(at(99_999_999_999), PowerKind.ON),
    )
    assert marks.read(b"42 on 100\n" * 99_999, "42").count(PowerEvent(at(100), PowerKind.ON)) < 30_000
    assert marks.object_name("budget-iris-1") == "state/budget-iris-1/power"


def test_where_google_remembers_nothing_else_counts() -> None:
    noted = (PowerEvent(at(100), PowerKind.ON), PowerEvent(at(210), PowerKind.ON))
    told = (PowerEvent(at(200), PowerKind.ON), PowerEvent(at(300), PowerKind.OFF))
    assert marks.older(noted, told) == (noted[0], *told)
    assert marks.older(noted, ()) == noted
