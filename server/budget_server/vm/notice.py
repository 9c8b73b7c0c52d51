"""The notice that Google gives before it takes a Spot VM away, followed by a thread of its own.

It changes nothing here: the VM serves on until the soft-off, which ends process 1 (`main`). Who reads the log
learns why, and so does the operator, also where it may not list what Google has done.
"""

import threading
from collections.abc import Callable

from budget_server.vm.metadata import MetadataServer, MetadataUnavailable
from budget_server.vm.process import log

GIVEN = "Google takes this VM away: serving on until the machine is switched off"
_UNAVAILABLE_SECONDS = 5


def follow(metadata: MetadataServer, stopping: threading.Event, given: Callable[[], None]) -> None:
    """Start to wait for the notice; `given` is called once there is one."""
    threading.Thread(target=_wait, args=(metadata, stopping, given), name="notice", daemon=True).start()


def _wait(metadata: MetadataServer, stopping: threading.Event, given: Callable[[], None]) -> None:
    etag = ""
    while not stopping.is_set():
        try:
            told = metadata.preempted(etag)
        except MetadataUnavailable:  # whoever follows budget-config says so
            stopping.wait(_UNAVAILABLE_SECONDS)
            continue
        if told.value is not None and told.value.strip() == "TRUE":
            log(GIVEN)
            given()
            return
        if not told.etag:
            return
        etag = told.etag
