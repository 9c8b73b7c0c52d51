"""What one client does, call by call, and how each call ended."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from dev.conformance.server import Cloud

DETAIL = 300


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    call: str
    client: str
    ok: bool
    detail: str = ""


@dataclass
class Script:
    """The calls of one client to a running cloud. A call that fails is told, and the next one is made."""

    client: str
    cloud: Cloud
    rows: list[Row] = field(default_factory=list)

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """What happens inside is one check: no exception, and no answer that is not as described."""
        problems: list[str] = []
        self.cloud.recorder.take()
        try:
            yield
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")
        problems += self.cloud.problems()
        detail = "; ".join(problems).replace("\n", " ")[:DETAIL]
        self.rows.append(Row(name, self.client, not problems, detail))

    @contextlib.contextmanager
    def refused(self, name: str, *kinds: type[Exception], saying: str = "") -> Iterator[None]:
        """The same for a call that has to be refused, with one of these exceptions and these words."""
        with self.call(name):
            try:
                yield
            except kinds as error:
                if saying not in str(error):
                    raise AssertionError(f"refused without {saying!r}: {error}") from error
            else:
                raise AssertionError("was not refused")


def same(found: object, wanted: object) -> None:
    """Raises:
    AssertionError: they are not equal.
    """
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")
