#!/bin/bash
# Shutdown script of every BudgetML VM, run at the soft-off: ends the loops that startup.sh left, so that nothing
# restarts the container, and lets the container finish its requests. The machine is off at most 30 s after the
# soft-off began, and the Docker engine is being stopped at the same time: both may end this script at any line.
set -u
export LC_ALL=C

readonly run=/run/budgetml

mkdir -p "$run"
touch "$run/stopping"
for loop in keep follow; do
  [[ ! -s $run/$loop.pid ]] || kill -- "-$(<"$run/$loop.pid")" 2>/dev/null
done
docker stop -t 27 budgetml >/dev/null 2>&1
exit 0
