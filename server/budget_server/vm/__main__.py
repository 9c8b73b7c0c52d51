"""`python -m budget_server.vm`: the container's entry point."""

import sys

from budget_server.vm.main import main

if __name__ == "__main__":
    sys.exit(main())
