"""The development stack: everything that `make` starts, builds, shows and ends on this machine.

Nothing here is part of a deployable. All state and logs lie below `.local/`.
"""
