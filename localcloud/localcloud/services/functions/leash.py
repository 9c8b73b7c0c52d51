"""Run as a script: becomes the program given, and ends when the process that started it ends.

`leash.py PARENT PROGRAM ARGUMENT...`: the kernel sends SIGTERM to the program when its parent dies.
Standard library only; it runs before anything else of the function does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
