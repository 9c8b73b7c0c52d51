"""What becomes of the process when its main thread fails."""

import subprocess
import sys

from localcloud.ports import free_port

PROGRAM = """
import threading
from budget_operator import main

class Broken:
    stopping = threading.Event()
    def snapshot(self): raise NotImplementedError
    def run(self):
        threading.Thread(target=threading.Event().wait).start()  # as a worker in the middle of a pass
        raise RuntimeError("can't start new thread")

main.build = lambda settings, pace: Broken()
main.operate()
"""


def test_a_failed_main_thread_takes_the_process_with_it() -> None:
    settings = {
        "BUDGET_PROJECT": "project-1",
        "BUDGET_ZONES": "us-central1-a",
        "BUDGET_BUCKET": "bucket-1",
        "BUDGET_IMAGE": "registry.example/server:1",
        "BUDGET_HEALTH_PORT": str(free_port()),
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "the main thread has failed" in ended.stderr + ended.stdout
    assert "can't start new thread" in ended.stderr + ended.stdout


def test_what_runs_for_months_does_not_carry_the_check_along() -> None:
    program = "import sys, budget_operator.main; print([each for each in sys.modules if 'preflight' in each])"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout.strip() == "[]"
