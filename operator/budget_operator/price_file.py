"""The prices that the operator goes by: those of a file that somebody renews now and then.

`budget-operator prices refresh` writes such a file, and `BUDGET_PRICES` names it.
"""

import logging
import threading
from pathlib import Path

from budget_operator.core.errors import InvalidSpec
from budget_operator.core.prices import stored
from budget_operator.core.prices.model import PriceList

log = logging.getLogger(__name__)


class PriceFile:
    """Read again whenever it has changed; while it cannot be read, the last prices are good."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidSpec if there are none in it."""
        self._path = path
        self._lock = threading.Lock()
        self._version = self._look()
        self._prices = _read(path)

    def current(self) -> PriceList:
        """The newest that could be read."""
        with self._lock:
            version = self._look()
            if version != self._version:
                self._version = version
                try:
                    self._prices = _read(self._path)
                    log.info("%s: prices of %s", self._path, self._prices.as_of)
                except InvalidSpec as error:
                    log.warning("%s; those of %s are kept", error.message, self._prices.as_of)
            return self._prices

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino


def _read(path: Path) -> PriceList:
    try:
        return stored.from_json(path.read_text(encoding="utf-8"))
    except InvalidSpec as error:
        raise InvalidSpec(f"BUDGET_PRICES: {path}: {error.message}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"BUDGET_PRICES: {path} cannot be read: {error}") from error
