#!/bin/bash
# Shutdown script of every BudgetML VM, run by the machine at the soft-off, by when it is off at most 30 s later. Ends
# the loops that startup.sh left, so that nothing restarts the container, and lets the container finish its requests.
#
# Meanwhile a VM that Google takes away tells the keep-alive, which starts it as soon as it is off. The end of the
# container's log goes to the bucket: at once, and again with its last words. The Docker engine is being stopped at the
# same time, and the power may go at any line: no step waits for another one that can hang.
set -u
export LC_ALL=C

readonly run=/run/budgetml
readonly metadata=http://169.254.169.254/computeMetadata/v1/instance
readonly patience=5
readonly stop_seconds=27
readonly tail_bytes=65536

log() { echo "budgetml-host: $*"; }

get_metadata() { curl -fsS -m "$patience" -H 'Metadata-Flavor: Google' "$metadata/$1"; }

field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$run/leaving"; }

google() { # the address of one of its services, or of whoever stands in for it
  local other
  other=$(field apiEndpoint)
  echo "${other:-https://$1.googleapis.com}"
}

post() { # to $1; the token is a builtin's, so it stands in no list of processes
  local token
  token=$(get_metadata service-accounts/default/token | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
  curl -fsS -m "$patience" -o /dev/null -X POST -H @<(printf 'Authorization: Bearer %s\n' "$token") "${@:2}" "$1"
}

publish() {
  local topic
  topic=$(field keepAliveTopic)
  [[ -n $topic && $(get_metadata preempted) == TRUE ]] || return 0
  if post "$(google pubsub)/v1/$topic:publish" -H 'Content-Type: application/json' \
    --data "{\"messages\":[{\"data\":\"$(field keepAliveData)\"}]}"; then
    log "told the keep-alive that Google takes this VM away"
  else
    log "cannot tell the keep-alive; its next tick starts this VM"
  fi
}

# What the container printed, read from the engine's file: the engine itself answers nobody once it is being stopped.
last_words() {
  tail -c $((4 * tail_bytes)) "$log_file" | sed -n -e 's/^{"log":"\(.*\)","stream":"[a-z]*".*/\1/' -e 't text' -e d \
    -e ':text' -e 's/\\n$//' -e 's/\\u003c/</g; s/\\u003e/>/g; s/\\u0026/\&/g; s/\\t/\t/g; s/\\"/"/g; s/\\\\/\\/g' -e p |
    tail -c $tail_bytes
}

save_log() { # $1 names a file for it, since two may be on their way
  local bucket deployment
  bucket=$(field bucket)
  deployment=$(field deployment)
  last_words >"$run/$1"
  [[ -n $bucket && -s $run/$1 ]] || return 0
  post "$(google storage)/upload/storage/v1/b/$bucket/o?uploadType=media&name=state%2F$deployment%2Flog-tail" \
    -H 'Content-Type: text/plain; charset=utf-8' --data-binary "@$run/$1"
}

tell() {
  get_metadata attributes/budget-config >"$run/leaving" || return 0
  publish &
  save_log log-so-far
  wait
}

mkdir -p "$run"
touch "$run/stopping"
[[ ! -e $run/power-noted ]] || date +%s >/var/lib/budgetml/alive # for startup.sh at the next boot
for loop in keep follow; do
  [[ ! -s $run/$loop.pid ]] || kill -- "-$(<"$run/$loop.pid")" 2>/dev/null
done
log "stopping: requests under way get their time"
pid="" log_file=/dev/null
[[ ! -s $run/container ]] || read -r pid log_file <"$run/container"
tell &
started=$SECONDS
docker stop -t $stop_seconds budgetml >/dev/null 2>&1 # in vain where the engine is being stopped and does so by itself
while [[ -n $pid && -d /proc/$pid ]] && ((SECONDS - started < stop_seconds)); do sleep 0.1; done
log "the container has ended after $((SECONDS - started)) s"
wait
if save_log log; then
  log "the end of the log is in the bucket"
else
  log "cannot save the end of the log"
fi
exit 0
