"""Why a revision cannot be served. Each class fixes the reason that the operator shows to people.

Message and log are cleaned and bounded here, whoever wrote them.
"""

from typing import ClassVar

MESSAGE_BYTES = 1024
LOG_BYTES = 4096


class RolloutError(Exception):
    """A revision could not be brought to serve; what served before keeps serving."""

    reason: ClassVar[str]
    #: Says nothing about the revision itself (a bucket out of reach), so it must not outlive this boot.
    transient: ClassVar[bool] = False
    #: What was going on, for people.
    doing: ClassVar[str] = "the preparation of the revision"
    #: A program ended without telling why; the kernel may have killed it.
    wordless: ClassVar[bool] = False

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.message = bounded(message, MESSAGE_BYTES)
        self.log = bounded(log, LOG_BYTES)


class ArtifactInvalid(RolloutError):
    """The bundle or the sealed credentials are not what the metadata promises."""

    reason = "ArtifactInvalid"


class ArtifactUnreachable(ArtifactInvalid):
    """The bucket did not deliver the bundle; it may well do so later."""

    transient = True


class CodeInvalid(RolloutError):
    """The code is not where the spec says, or is not what may be unpacked here."""

    reason = "CodeInvalid"


class RequirementsFailed(RolloutError):
    """The user's requirements could not be installed together with the server's own."""

    reason = "RequirementsFailed"
    doing = "the installation of the requirements"


class LoadFailed(RolloutError):
    """The server ended, or did not become ready in time, while it loaded the model."""

    reason = "LoadFailed"
    doing = "load"


class ReadinessFailed(RolloutError):
    """The model loaded, but a prediction with the readiness payload failed."""

    reason = "ReadinessFailed"
    doing = "predict, asked with readiness.payload"


class InstallKilled(RequirementsFailed):
    """What installed them was ended from outside."""

    wordless = True


class Died(LoadFailed):
    """The server ended while it loaded, and nobody could say why."""

    wordless = True


class DiedServing(Died):
    """The server, or a worker of it, ended after it had served."""

    doing = "predict, or load in a worker that was started again"


class Unanswered(ReadinessFailed):
    """Whoever was to answer the readiness payload hung up instead."""

    wordless = True


class Exhausted(RolloutError):
    """The machine is too small; trying again soon would only be a burden to what serves on it."""

    doing = "load"


class OutOfMemory(Exhausted):
    """There was no memory left, and the kernel killed who wanted it or refused it."""

    reason = "OutOfMemory"


class DiskFull(Exhausted):
    """The disk had no room left."""

    reason = "DiskFull"


class Interrupted(Exception):
    """The attempt was given up because of newer intent or a shutdown."""


def bounded(text: str, size: int) -> str:
    """The end of a text, at most this many bytes long in UTF-8 and without control characters."""
    clean = "".join(char for char in text if char.isprintable() or char in "\n\t")
    return clean.encode(errors="replace")[-size:].decode(errors="ignore")
