"""The latest `budget-config`, followed by a thread of its own."""

import threading

from budget_server.vm.metadata import Attribute, MetadataServer, MetadataUnavailable
from budget_server.vm.process import log

_ABSENT_SECONDS, _UNAVAILABLE_SECONDS = 2, 5


class Intent:
    """What this VM is to serve, and whether it is to end; `changed` is set with every change of either."""

    def __init__(self, metadata: MetadataServer) -> None:
        self._metadata = metadata
        self.text: str | None = None
        self.changed = threading.Event()
        #: Once it is known whether there is a first one.
        self.asked = threading.Event()
        self.stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._follow, name="intent", daemon=True).start()

    def stop(self) -> None:
        self.stopping.set()
        self.changed.set()

    def _follow(self) -> None:
        etag = ""
        while not self.stopping.is_set():
            try:
                attribute = self._read(etag)
            except MetadataUnavailable as error:
                log(str(error))
                self.stopping.wait(_UNAVAILABLE_SECONDS)
                continue
            etag = attribute.etag
            if attribute.value is not None and attribute.value != self.text:
                self.text = attribute.value
                self.changed.set()
            self.asked.set()
            if not etag:
                self.stopping.wait(_ABSENT_SECONDS)

    def _read(self, etag: str) -> Attribute:
        if etag:
            return self._metadata.changed_attribute("budget-config", etag)
        return self._metadata.attribute("budget-config")
