"""How lines are logged, kopf's and those of Google's clients too: as JSON for programs, as text for people.

Which pass a line is of comes from `core.trail`. What is logged is decided where it happens.
"""

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime

from budget_operator.core import trail
from budget_operator.core.masking import masked

FORMATS = ("json", "text")
# A line for every event and every probe.
_CHATTY = ("kopf.objects",)


class LogSettingsError(Exception):
    """A variable about logging is wrong; the message names it."""


class JsonFormatter(logging.Formatter):
    """One object in one line, with the words that Cloud Logging reads: `severity`, `message`, `time`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "thread": record.threadName,
            **_fields(),
        }
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return masked(json.dumps(line, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """For people; the pass stands in brackets behind the logger's name."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(threadName)s %(name)s%(trail)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        about = _fields()
        place = "{namespace}/{name} generation {generation} pass {pass}".format_map(about) if about else ""
        record.trail = f" [{place}]" if place else ""
        return masked(super().format(record))


def _fields() -> dict[str, object]:
    """What the line is about, if it is about a pass."""
    seen = trail.current()
    if seen is None:
        return {}
    return {
        "namespace": seen.namespace,
        "name": seen.name,
        "generation": seen.generation,
        "pass": seen.id,
    }


def set_up(environment: Mapping[str, str]) -> None:
    """Let every logger write to stderr, by BUDGET_LOG_FORMAT and BUDGET_LOG_LEVEL.

    Raises:
        LogSettingsError: one of them has no such value.
    """
    form, level = environment.get("BUDGET_LOG_FORMAT", "text"), environment.get("BUDGET_LOG_LEVEL", "INFO")
    if form not in FORMATS:
        raise LogSettingsError(f"BUDGET_LOG_FORMAT: {form!r} is neither {' nor '.join(FORMATS)}")
    if level.upper() not in logging.getLevelNamesMapping():
        raise LogSettingsError(f"BUDGET_LOG_LEVEL: {level!r} is no level, such as INFO")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Google's clients keep their lines from the root logger unless theirs has a level; below INFO they would
    # tell whole requests, with what stands in a VM's metadata.
    google = logging.getLogger("google")
    google.setLevel(max(logging.INFO, logging.getLogger().level))
    google.propagate = True
