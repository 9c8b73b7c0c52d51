"""One line for each check: what is so, and the command that mends it. How all of them are shown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from budget_operator.core.preflight.facts import Unread


class Verdict(StrEnum):
    """What a check has come to."""

    OK = "ok"
    MISSING = "MISSING"  # deployments would fail, or be less safe than promised
    WARN = "WARN"  # works, and is not as it should be
    UNKNOWN = "unknown"  # the caller may not look


@dataclass(frozen=True)
class Finding:
    """`subject` groups lines: what was checked."""

    verdict: Verdict
    subject: str
    text: str
    mend: str = ""


def ok(subject: str, text: str) -> Finding:
    return Finding(Verdict.OK, subject, text)


def missing(subject: str, text: str, mend: str) -> Finding:
    return Finding(Verdict.MISSING, subject, text, mend)


def warn(subject: str, text: str, mend: str) -> Finding:
    return Finding(Verdict.WARN, subject, text, mend)


def unknown(subject: str, unread: Unread) -> Finding:
    return Finding(Verdict.UNKNOWN, subject, unread.why, unread.mend)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all is well; 1: something is missing; 2: something could not be checked."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.MISSING in verdicts:
        return 1
    return 2 if Verdict.UNKNOWN in verdicts else 0


def as_text(findings: Sequence[Finding]) -> str:
    """For people: a line each, and below it the command."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<7}  {finding.subject:<{width}}  {finding.text}")
        if finding.mend:
            lines.append(f"    mend: {finding.mend}")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """For programs."""
    return json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2)
