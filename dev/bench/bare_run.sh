#!/bin/bash
# The baseline of `make bench-vm`, run inside a VM of the local cloud: one `docker run` of the image that serves there,
# with the same environment, code and settings, but gunicorn alone: no front door, no metadata, no bucket.
# Prints the seconds from `docker run` to the first prediction. $1 = port, $2 = body of the prediction.
set -euo pipefail
name=bench-bare
seconds_since() { local ms=$(((${EPOCHREALTIME/./} - $1) / 1000)) && printf '%d.%03d\n' $((ms / 1000)) $((ms % 1000)); }

# gunicorn's master, which is older than its workers
pid=$(grep -lz 'budget_server.app:app' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3 | sort -n | head -n 1)
mapfile -d '' -t argv <"/proc/$pid/cmdline"
mapfile -d '' -t environ <"/proc/$pid/environ"
given=()
for entry in "${environ[@]}"; do
  [[ $entry == BUDGET_FAILURE_FILE=* ]] || given+=(--env "$entry")
  [[ $entry != BUDGET_TOKEN=* ]] || token=${entry#*=}
done
image=$(docker inspect --format '{{.Config.Image}}' budgetml)
docker rm -f $name >/dev/null 2>&1 || true
trap 'docker rm -f $name >/dev/null 2>&1' EXIT

started=${EPOCHREALTIME/./}
docker run -d --name $name --network host --init --read-only --tmpfs /tmp:mode=1777 -v budgetml:/var/lib/budgetml \
  "${given[@]}" --entrypoint "${argv[0]}" "$image" -m gunicorn -c python:budget_server.gunicorn_conf \
  budget_server.app:app "--bind=127.0.0.1:$1" >/dev/null
until curl -fsS -m 5 -o /dev/null -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
  -d "$2" "http://127.0.0.1:$1/predict_dict" 2>/dev/null; do
  [[ $(docker inspect --format '{{.State.Running}}' $name) == true ]] || {
    docker logs $name >&2
    exit 1
  }
  sleep 0.02
done
seconds_since "$started"
