"""The notice that Google gives before it takes a Spot VM away, followed by a thread of its own.

It changes nothing here: the VM serves on until the soft-off, which ends process 1 (`main`). Who reads the log
learns why.
"""

import threading

from budget_server.vm.metadata import MetadataServer, MetadataUnavailable
from budget_server.vm.process import log

GIVEN = "Google takes this VM away: serving on until the machine is switched off"
_UNAVAILABLE_SECONDS = 5


def follow(metadata: MetadataServer, stopping: threading.Event) -> None:
    """Start to wait for the notice."""
    threading.Thread(target=_wait, args=(metadata, stopping), name="notice", daemon=True).start()


def _wait(metadata: MetadataServer, stopping: threading.Event) -> None:
    etag = ""
    while not stopping.is_set():
        try:
            told = metadata.preempted(etag)
        except MetadataUnavailable:  # whoever follows budget-config says so
            stopping.wait(_UNAVAILABLE_SECONDS)
            continue
        if told.value is not None and told.value.strip() == "TRUE":
            log(GIVEN)
            return
        if not told.etag:
            return
        etag = told.etag
