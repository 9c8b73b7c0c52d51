#!/bin/bash
# Startup script of every BudgetML VM, run by the machine at each boot: opens the host firewall, fetches the server's
# image and runs it as the one container `budgetml`. What the container is to serve it reads from metadata by itself.
#
# It switches the machine off when the month's budget is spent, as the metadata key `budget-limit` says.
#
# Written for Container-Optimized OS: bash, coreutils, sed, curl, iptables and docker are all there is; the root is
# read-only, nothing below /var can be executed, and neither /etc, /run nor firewall rules outlive a boot.
#
# It leaves two loops behind: `keep` is the only restarter of the container, `follow` waits for another image in the
# metadata key `budget-config`. shutdown.sh ends both. Only `follow` pulls and removes images and tells the guest
# attribute `budgetml/host`, so none of these can overtake another.
#
# They meet in files below /run/budgetml: `image` is to run, `running` is the one that the container was made of,
# `failure` tells why the wanted one is not here, and `replaced` how long nobody was answered while one container took
# the place of another (`measuring` is there until that is known). $HOME/last-image outlives boots, and so do $HOME/power,
# which tells when this machine was on, and $HOME/alive, until when it was: once a minute, and at the soft-off.
set -u
export LC_ALL=C HOME=/var/lib/budgetml

readonly run=/run/budgetml
readonly metadata=http://169.254.169.254/computeMetadata/v1/instance
readonly longest_pause=60
readonly settled_after=300
readonly power_lines=2000

log() { echo "budgetml-host: $*"; }
now_us() { echo "${EPOCHREALTIME/./}"; }

seconds_since() { # microseconds as of now_us -> seconds with two decimals
  local hundredths=$((($(now_us) - $1) / 10000))
  printf '%d.%02d' $((hundredths / 100)) $((hundredths % 100))
}

longer() { echo $(($1 * 2 < longest_pause ? $1 * 2 : longest_pause)); }

content() { cat "$1" 2>/dev/null; }

put_file() { # whole or not at all, for whoever reads it meanwhile
  printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1"
}

image_in() { sed -n 's/.*"image":"\([^"]*\)".*/\1/p' "$1"; }

get_metadata() { curl -fsS -m "$1" -H 'Metadata-Flavor: Google' "$metadata/$2" "${@:3}"; }

json_text() { # what may stand between the quotes of a JSON string, at most 600 characters
  local text=${1//[^[:print:]]/ }
  text=${text:0:600}
  text=${text//\\/\\\\}
  printf '%s' "${text//\"/\\\"}"
}

put_guest_attribute() {
  curl -fsS -m 10 -X PUT -H 'Metadata-Flavor: Google' --data "$2" "$metadata/guest-attributes/budgetml/$1" >/dev/null
}

tell_host() { # which image runs, why it is not the wanted one, how it came; written only when it is news
  local image="" failure reason="" replaced news
  [[ -e $run/measuring ]] || image=$(content "$run/running") # until it answers, none does
  failure=$(content "$run/failure")
  [[ -z $failure ]] || reason=ImagePullFailed
  [[ $failure != *"no space left on device"* ]] || reason=DiskFull
  replaced=$(content "$run/replaced")
  news="{\"image\":\"$(json_text "$image")\",\"reason\":\"$reason\",\"message\":\"$(json_text "$failure")\""
  news+="${replaced:+,\"replaced\":$replaced}}"
  [[ $news != "$(content "$run/told")" ]] || return 0
  if put_guest_attribute host "$news"; then
    put_file "$run/told" "$news"
  else
    log "cannot write the guest attribute budgetml/host"
  fi
}

note_failed_pull() {
  local why
  # An engine that is being stopped fails every pull; that is no news about the image.
  docker ps >/dev/null 2>&1 || return
  why=$(tail -n 3 "$run/pull")
  log "cannot pull $1: $why"
  [[ $why != *"no space left on device"* ]] || why="the disk is full (a larger spec.machine.diskGiB helps): $why"
  put_file "$run/failure" "$1: $why"
}

open_ports() {
  local port
  for port in 80 443; do
    iptables -w -C INPUT -p tcp --dport "$port" -j ACCEPT 2>/dev/null ||
      iptables -w -A INPUT -p tcp --dport "$port" -j ACCEPT
  done
}

wait_for_engine() {
  until docker ps >/dev/null 2>&1; do sleep 0.2; done
}

read_wanted_image() { # until the metadata server tells one
  local pause=1 image
  until get_metadata 10 attributes/budget-config >"$run/config" && image=$(image_in "$run/config") && [[ -n $image ]]; do
    log "no image in the metadata key budget-config; again in ${pause} s" >&2
    sleep "$pause"
    pause=$(longer "$pause")
  done
  echo "$image"
}

limit_field() { sed -n "s/.*\"$1\":\"\{0,1\}\([-0-9]*\).*/\1/p" "$HOME/limit"; }

month_begin() { date -u -d "$(date -u -d "@$1" +%Y-%m)-01 $2" +%s; }

deadline() { # until when this machine may run in the month of $1, in seconds since 1970; nothing where there is no limit
  local month limit_month monthly running stopped begin next left
  month=$(date -u -d "@$1" +%Y-%m)
  limit_month=$(limit_field month)
  monthly=$(limit_field monthly) running=$(limit_field running) stopped=$(limit_field stopped)
  [[ -n $limit_month && -n $monthly && -n $running && -n $stopped ]] || return 0
  ((running > stopped)) || return 0 # off, it would cost more
  if [[ ! $month > $limit_month ]]; then
    limit_field deadline
    return
  fi
  begin=$(month_begin "$1" "") next=$(month_begin "$1" "+1 month") # nobody knows what was spent: all of it may have been
  left=$((monthly - stopped * ((next - begin) / 3600)))
  ((left > 0)) || left=0
  left=$((begin + left * 3600 / (running - stopped)))
  echo $((left < next ? left : next))
}

is_off_limits() { # whether the budget is spent now
  local until
  until=$(deadline "$1")
  [[ -n $until ]] && (($1 >= until))
}

keep_budget() { # while the metadata server does not answer the last limit counts
  local limit
  if limit=$(get_metadata 10 attributes/budget-limit 2>/dev/null) && [[ $limit != "$(content "$HOME/limit")" ]]; then
    put_file "$HOME/limit" "$limit"
  fi
  [[ -s $HOME/limit ]] || return 0
  is_off_limits "$(date +%s)" || return 0
  log "the month's budget is spent: this machine goes off"
  poweroff
}

log_in_to_registry() {
  local registry=${1%%/*}
  [[ $registry == *.pkg.dev ]] || return 0
  command -v docker-credential-gcr >/dev/null || return 0
  docker-credential-gcr configure-docker --registries="$registry" >/dev/null
}

pull() { # one try; what went wrong is in $run/pull
  log_in_to_registry "$1"
  docker pull --quiet "$1" >"$run/pull" 2>&1
}

on_disk() { docker image inspect "$1" >/dev/null 2>&1; }

make_room() { # for the image $1: the one that runs and the last that ran may be needed, all others not
  local name kept=""
  for name in "$1" "$(content "$run/running")" "$(content "$HOME/last-image")"; do
    [[ -z $name ]] || kept+=" $(docker image inspect --format '{{.Id}}' "$name" 2>/dev/null)"
  done
  remove_images_but "$kept"
}

remove_images_but() { # one by one and not by `prune`, which takes any whose container is just being replaced
  local found
  docker image ls --quiet --no-trunc | sort -u | while read -r found; do
    [[ " $1 " == *" $found "* ]] || docker image rm --force "$found" >/dev/null || log "cannot remove the image $found"
  done
}

fetch_first_image() { # sets `image`: the wanted one; if it cannot be had, the last that ran, for `follow` to replace
  local pause=1 last
  last=$(content "$HOME/last-image")
  image=$(read_wanted_image)
  on_disk "$image" || make_room "$image"
  until pull "$image"; do
    if on_disk "$image"; then
      log "cannot pull $image, using the one on this disk: $(tail -n 1 "$run/pull")"
      break
    fi
    note_failed_pull "$image"
    tell_host
    if [[ -n $last ]] && on_disk "$last"; then
      log "going back to $last, the last that ran here"
      image=$last
      return
    fi
    sleep "$pause"
    pause=$(longer "$pause")
    image=$(read_wanted_image)
  done
  rm -f "$run/failure"
  tell_host
}

run_container() {
  docker rm -f budgetml >/dev/null 2>&1
  docker run -d --name budgetml --network host --init --read-only --no-healthcheck \
    --tmpfs /tmp:mode=1777,size=256m -v budgetml:/var/lib/budgetml \
    --stop-timeout 27 --log-opt max-size=10m --log-opt max-file=3 \
    --security-opt no-new-privileges --cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add SETUID --cap-add SETGID \
    --cap-add CHOWN --cap-add KILL \
    -e BUDGET_BOOT_ENGINE="$BUDGET_BOOT_ENGINE" -e BUDGET_BOOT_PULL="$BUDGET_BOOT_PULL" \
    -e BUDGET_BOOT_IMAGE="$1" "$1" >/dev/null
}

wait_for_end() { # prints the exit code; an engine that is restarted meanwhile is not the container's end
  until docker wait budgetml 2>/dev/null; do
    wait_for_engine
    docker inspect budgetml >/dev/null 2>&1 || return
  done
}

pause_for() { # cut short by another image
  local until=$((SECONDS + $1))
  while ((SECONDS < until)) && [[ $(<"$run/image") == "$2" ]]; do sleep 1; done
}

remember() { # for a boot at which the wanted image cannot be had
  [[ $(content "$HOME/last-image") != "$1" ]] || return 0
  put_file "$HOME/last-image" "$1"
  sync "$HOME/last-image" # the power may be cut at any time
}

keep() { # runs the image named in $run/image for as long as this machine is up
  local pause=1 image started ended
  until [[ -e $run/stopping ]]; do
    wait_for_engine
    image=$(<"$run/image")
    [[ $(content "$run/running") == "$image" ]] || rm -f "$run/running"
    started=$SECONDS
    ended="not started"
    if run_container "$image"; then
      log "running $image"
      # for shutdown.sh, which may find no engine to ask
      docker inspect --format '{{.State.Pid}} {{.LogPath}}' budgetml >"$run/container"
      put_file "$run/running" "$image"
      remember "$image"
      touch "$run/untidy"
      ended="exit code $(wait_for_end)"
    fi
    [[ ! -e $run/stopping ]] || break
    ((SECONDS - started < settled_after)) || pause=1
    [[ $(<"$run/image") == "$image" ]] || continue
    log "the container ended ($ended); again in ${pause} s"
    pause_for "$pause" "$image"
    pause=$(longer "$pause")
  done
}

fetch_next() { # while the old container serves
  on_disk "$1" || make_room "$1"
  if ! pull "$1"; then
    note_failed_pull "$1"
    return 1
  fi
  put_file "$run/image" "$1"
}

tidy() {
  local wanted
  wanted=$(docker image inspect --format '{{.Id}}' "$1") || return 0
  rm -f "$run/untidy"
  remove_images_but "$wanted"
}

answers() { # whether the model's server is reached, whatever it says; what stands before it answers 5xx alone
  local code
  code=$(curl -ksL -m 2 -o /dev/null -w '%{http_code}' http://127.0.0.1/)
  ((code >= 200 && code < 500))
}

measure_down() { # how long nobody was answered until a container of $1 did
  local last
  last=$(now_us)
  until [[ -e $run/stopping ]]; do
    if answers; then
      [[ $(content "$run/running") != "$1" ]] || break
      last=$(now_us)
    fi
    sleep 0.1
  done
  [[ ! -e $run/stopping ]] || return 0
  last=$(seconds_since "$last")
  log "replaced the container: nobody was answered for $last s"
  put_file "$run/replaced" "{\"image\":\"$(json_text "$1")\",\"downSeconds\":$last}"
  rm -f "$run/measuring"
}

replace_container() { # `keep` starts the next one
  log "replacing the container: $1"
  [[ ! -s $run/measuring ]] || kill "$(<"$run/measuring")" 2>/dev/null # of one that never answered
  measure_down "$1" &
  put_file "$run/measuring" $!
  docker stop -t 27 budgetml >/dev/null 2>&1
}

take_config() { # whether the image in $run/config runs; where not, what can be done now for that has been done
  local image running
  image=$(image_in "$run/config")
  [[ -n $image ]] || return 1
  [[ $image == "$(<"$run/image")" ]] || fetch_next "$image" || return 1
  rm -f "$run/failure"
  running=$(content "$run/running")
  if [[ $running != "$image" ]]; then
    [[ -n $running ]] || return 1 # `keep` is about to start it
    replace_container "$image"
    return 1
  fi
  [[ ! -e $run/measuring ]] || return 1
  [[ ! -e $run/untidy ]] || tidy "$image"
}

follow() { # the metadata server answers when the value changes, or after a minute; earlier while there is work left
  local pause=1 etag=0 patience=60 last_etag
  until [[ -e $run/stopping ]]; do
    put_file "$HOME/alive" "$(date +%s)"
    keep_budget
    if ! get_metadata $((patience + 15)) \
      "attributes/budget-config?wait_for_change=true&timeout_sec=$patience&last_etag=$etag" \
      -D "$run/headers" >"$run/config"; then
      sleep "$pause"
      pause=$(longer "$pause")
      continue
    fi
    last_etag=$etag
    etag=$(sed -n 's/^[Ee][Tt][Aa][Gg]: *\([^[:space:]]*\).*/\1/p' "$run/headers")
    [[ $etag == "$last_etag" ]] || pause=1
    if take_config; then
      pause=1 patience=60
    else
      patience=$pause
      pause=$(longer "$pause")
    fi
    tell_host
  done
}

end_loops() { # of an earlier run of this script since the machine booted
  local loop
  for loop in keep follow; do
    [[ ! -s $run/$loop.pid ]] || kill -- "-$(<"$run/$loop.pid")" 2>/dev/null
  done
}

field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$run/config"; }

upload() { # the file $1 as the object $2 below the deployment's state/; no list of processes shows the token
  local base token name
  base=$(field apiEndpoint)
  name=state%2F$(field deployment)%2F$2
  token=$(get_metadata 10 service-accounts/default/token | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
  curl -fsS -m 30 -o /dev/null -X POST -H @<(printf 'Authorization: Bearer %s\n' "$token") \
    -H 'Content-Type: text/plain; charset=utf-8' --data-binary "@$1" \
    "${base:-https://storage.googleapis.com}/upload/storage/v1/b/$(field bucket)/o?uploadType=media&name=$name"
}

note_power() { # once for each boot, before anything says again that this machine is alive
  local id last
  [[ ! -e $run/power-noted ]] || return 0
  id=$(get_metadata 10 id) || return 0
  last=$(content "$HOME/alive")
  [[ -z $last ]] || echo "$id off $last" >>"$HOME/power"
  echo "$id on $(date +%s)" >>"$HOME/power"
  put_file "$HOME/power" "$(tail -n $power_lines "$HOME/power")"
  touch "$run/power-noted"
}

save_power() { # for whoever meters what this machine cost, after Google has forgotten
  upload "$HOME/power" power || log "cannot save when this machine was on"
}

leave_loop() { # in a session of its own, on the serial console: the machine waits for this script, not for the loop
  setsid bash "$run/startup.sh" "$1" </dev/null >>/dev/console 2>&1 &
  echo $! >"$run/$1.pid"
}

boot() {
  local started image
  mkdir -p "$run" "$HOME"
  cp "$0" "$run/startup.sh"
  cd / || return # the machine removes the directory that it runs this script in
  end_loops
  open_ports
  started=$(now_us)
  wait_for_engine
  BUDGET_BOOT_ENGINE=$(seconds_since "$started")
  started=$(now_us)
  fetch_first_image
  BUDGET_BOOT_PULL=$(seconds_since "$started")
  export BUDGET_BOOT_ENGINE BUDGET_BOOT_PULL
  put_file "$run/image" "$image"
  note_power
  leave_loop keep
  log "engine $BUDGET_BOOT_ENGINE s, pull $BUDGET_BOOT_PULL s"
  save_power # before `follow`: while that waits for the next configuration there is none to read
  leave_loop follow
}

# Sourced by tests, which call the functions above one by one.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  case ${1:-boot} in
    keep) keep ;;
    follow) follow ;;
    *) boot ;;
  esac
fi
