"""Reading what a VM says about itself. It may say anything: sizes are bounded, control characters leave,
wrong types are ignored, and nothing here ever proves that a deployment is ready.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from budget_operator.core.observed import CertificateReport, GuestReport, Host

_DOCUMENT_LIMIT = 32 * 1024  # a guest attribute is at most this long anyway
_WORD_LIMIT = 64
_MESSAGE_LIMIT = 1024
_IMAGE_LIMIT = 512
_NAME_LIMIT = 254
_LAST_MOMENT = 2**33  # in the year 2242
_LOG_LIMIT = 4096
_CERTIFICATE_LIMIT = 16 * 1024
_PHASES = frozenset({"boot", "artifact", "environment", "load", "serving", "failed"})
_REVISION = re.compile(r"[0-9a-f]{1,64}")
_BOOT_KEYS = frozenset({"engine", "pull", "artifact", "environment", "load", "frontDoor", "certificate"})
_LONGEST_BOOT_SECONDS = 30 * 24 * 3600.0
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----", re.ASCII
)


def report(attributes: Mapping[str, str]) -> GuestReport:
    """The report in the keys of the namespace `budgetml`: state, host, ca, certificate and notice."""
    state = _document(attributes.get("state", ""))
    failure = _mapping(state.get("failure"))
    phase = _word(state.get("phase"))
    return GuestReport(
        phase=phase if phase in _PHASES else "",
        target=_revision(state.get("target")) or "",
        active=_revision(state.get("active")),
        boot=_seconds(state.get("boot")),
        failure_reason=_word(failure.get("reason")),
        failure_message=_text(failure.get("message"), _MESSAGE_LIMIT),
        failure_log=_tail(failure.get("log")),
        failure_revision=_revision(failure.get("revision")) or "",
        recreated=_revision(state.get("recreated")) or "",
        ca_certificate=certificate(attributes.get("ca", "")),
        certificate=_certificate_report(_document(attributes.get("certificate", ""))),
        host=_host(_document(attributes.get("host", ""))),
        noticed_at=_moment(_document(attributes.get("notice", "")).get("at")),
    )


def _certificate_report(told: Mapping[str, object]) -> CertificateReport:
    retry_at = _moment(told.get("retryAt"))
    return CertificateReport(
        name=_text(told.get("name"), _NAME_LIMIT),
        reason=_word(told.get("reason")),
        message=_text(told.get("message"), _MESSAGE_LIMIT),
        retry_at=None if retry_at is None else retry_at.timestamp(),
    )


def _moment(value: object) -> datetime | None:
    """Seconds since 1970, if they can be."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LAST_MOMENT:
        return None
    return datetime.fromtimestamp(value, UTC)


def _host(told: Mapping[str, object]) -> Host:
    image, replaced = told.get("image"), _mapping(told.get("replaced"))
    return Host(
        image=_text(image, _IMAGE_LIMIT) if isinstance(image, str) else None,
        reason=_word(told.get("reason")),
        message=_text(told.get("message"), _MESSAGE_LIMIT),
        replaced=_text(replaced.get("image"), _IMAGE_LIMIT),
        down_seconds=_number(replaced.get("downSeconds")),
    )


def clean(text: str) -> str:
    """Without control characters, except line ends and tabs (escape sequences change terminals)."""
    return "".join(ch for ch in text if ch in "\n\t" or ch.isprintable())


def certificate(text: str) -> str:
    """The first PEM certificate in the text, or nothing."""
    found = _CERTIFICATE.search(text[:_CERTIFICATE_LIMIT].replace("\r", ""))
    return f"{found.group(0)}\n" if found else ""


def _document(text: str) -> Mapping[str, object]:
    if len(text) > _DOCUMENT_LIMIT:
        return {}
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object, limit: int) -> str:
    return clean(value[: 4 * limit])[:limit].strip() if isinstance(value, str) else ""


def _tail(value: object) -> str:
    return clean(value[-4 * _LOG_LIMIT :])[-_LOG_LIMIT:] if isinstance(value, str) else ""


def _word(value: object) -> str:
    text = _text(value, _WORD_LIMIT)
    return text if text.isalnum() and text.isascii() else ""


def _revision(value: object) -> str | None:
    return value if isinstance(value, str) and _REVISION.fullmatch(value) else None


def _seconds(value: object) -> dict[str, float]:
    told = {key: _number(number) for key, number in _mapping(value).items() if key in _BOOT_KEYS}
    return {key: seconds for key, seconds in told.items() if seconds is not None}


def _number(value: object) -> float | None:
    """Seconds that can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not isinstance(value, int) and not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= _LONGEST_BOOT_SECONDS else None
