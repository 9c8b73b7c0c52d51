"""Process 1: the wiring, and the order of start and end.

`budget-config` as it changes is followed in `intent`; what is done about it is decided in `converge`.
"""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable

from budget_server.vm import notice
from budget_server.vm.certificates import Certificates
from budget_server.vm.converge import Converger, child_environment
from budget_server.vm.frontdoor import FrontDoor
from budget_server.vm.intent import Intent
from budget_server.vm.metadata import MetadataServer
from budget_server.vm.process import log
from budget_server.vm.report import Reporter
from budget_server.vm.settings import Settings

#: Of the 27 s that the container is given. First the front door ends, which lets requests finish; then what
#: stands behind it, which by then has little to do, or is stuck and gets what is left.
END_SECONDS = 26.5
DOOR_SECONDS, WORK_SECONDS, SERVER_SECONDS, REPORT_SECONDS = 25.3, 0.2, 4.0, 0.4
_STOP, _CRASH = b"s", b"c"


def main() -> int:
    """Run until SIGTERM, or until something here breaks: then the host starts the container again."""
    wait_for_end, end = _ending()
    settings = Settings.from_environ()
    metadata = MetadataServer(settings.metadata_host)
    intent = Intent(metadata)
    reporter = Reporter(metadata.publish)
    reporter.update(boot=dict(settings.host_seconds))
    reporter.start()
    door = FrontDoor(settings, child_environment(os.environ))
    Certificates(settings, metadata, reporter, door, intent).start()
    converger = Converger(settings, metadata, reporter, door, intent)
    intent.start()
    notice.follow(metadata, intent.stopping, reporter.notice)
    working = threading.Thread(target=_work, args=(converger, end), name="converge", daemon=True)
    working.start()
    code = wait_for_end()
    deadline = time.monotonic() + END_SECONDS
    log("stopping: requests under way get their time")
    intent.stop()
    door.stop(DOOR_SECONDS)
    working.join(WORK_SECONDS)
    converger.stop(max(min(SERVER_SECONDS, deadline - REPORT_SECONDS - time.monotonic()), 0))
    reporter.close(REPORT_SECONDS)
    # at once: some threads still wait for the metadata server
    os._exit(code)


def _work(converger: Converger, end: Callable[[bytes], object]) -> None:
    try:
        converger.run()
    except BaseException:
        traceback.print_exc()
        end(_CRASH)
        raise


def _ending() -> tuple[Callable[[], int], Callable[[bytes], object]]:
    """How to wait for the end, and how to call for it: by a pipe, since a signal handler may take no lock."""
    reading, writing = os.pipe()

    def end(why: bytes) -> None:
        os.write(writing, why)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end(_STOP))
    return lambda: int(os.read(reading, 1) != _STOP), end
