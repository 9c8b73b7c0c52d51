"""gunicorn's settings.

Used as `python -m gunicorn -c python:budget_server.gunicorn_conf budget_server.app:app --bind …`.

Which socket is said on the command line, the numbers by the environment (`settings`). A model that cannot be
loaded ends gunicorn: workers that fail over and over would only hide it.
"""

import logging
import os
import sys
from typing import Any

from gunicorn.errors import HaltServer  # type: ignore[import-untyped]

from budget_server.errors import SettingsError, WorkerDied
from budget_server.metrics import Board, State
from budget_server.predictor import report_failure
from budget_server.settings import Settings

try:
    _settings = Settings.from_environment(os.environ)
except SettingsError as error:
    sys.exit(str(error))

LOAD_FAILED = 3
"""Exit code of a server whose model could not be loaded; gunicorn's own for a worker that could not boot."""

worker_class = "budget_server.worker.Worker"
workers = _settings.workers
# A load may take half an hour; who started us has its own deadline, and tells a hung server by its health.
timeout = 0
graceful_timeout = 25
# Longer than the front door's, which then is always the one to close.
keepalive = 75
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - heartbeat files, not data
# Twice the workers and more, because old ones may still drain while new ones load.
_board = Board(2 * workers + 2)


def pre_fork(server: Any, worker: Any) -> None:
    """The numbers that worker and master share."""
    taken = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(slot for slot in _board.slots if slot not in taken)


def post_fork(_server: Any, worker: Any) -> None:
    """Our log goes where gunicorn's goes, and the user's prints are seen when they happen."""
    logger = logging.getLogger("budget_server")
    logger.handlers = worker.log.error_log.handlers
    logger.setLevel(worker.log.error_log.level)
    logger.propagate = False
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def post_worker_init(worker: Any) -> None:
    """The application counts where all workers do."""
    worker.wsgi.parts.use(_board, worker.slot)


def worker_exit(_server: Any, worker: Any) -> None:
    """A worker without a model ends with a code that leaves the halt to `child_exit`.

    gunicorn halts by itself on code 3, but fails with a traceback if a second worker ends so meanwhile.
    """
    if worker.slot.state is not State.LOADED:
        sys.exit(1)


def child_exit(server: Any, worker: Any) -> None:
    """Halt when a worker ended without a model: one that died in load without a word would do so again."""
    state = worker.slot.state
    worker.slot.clear()
    if not server.LISTENERS:  # everything is being stopped
        return
    if state is State.LOADED:
        worker.slot.restarted()
        return
    message = f"{_settings.entrypoint} could not be loaded"
    if state is State.LOADING:
        message += ": the process ended meanwhile, for want of memory or by a crash in native code"
        report_failure(_settings.failure_file, WorkerDied(message, ""))
    raise HaltServer(message, LOAD_FAILED)
