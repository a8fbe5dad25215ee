#!/usr/bin/env bash
# Training and answering on TPU VMs obtained by queued resources: one slice or several, spot or not.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tpu/queued.sh [--dry-run] create | wait | install | train | generate | watch | fetch | delete | run
       (from the top of the repository)

  create   ask for the slices           wait     until they are there, saying what for
  install  the package on every host, and the shared folder if there is one
  train    on every host, in the background there: a closed laptop does not stop it; then `watch`
  generate answers to posts, by all hosts together, in the background as `train`; then `watch`
  watch    the training, or the answering: its last lines as they come, and its status at the end; Ctrl-C leaves it running
  fetch    the folder `predictions` of the first host, to here
  delete   the slices; bucket and shared folder stay
  run      create, wait, install, train; after a preemption again from `create`, until the training is finished; then
           asks whether to delete what is billed. Start it in tmux to close the laptop while it waits.

  --dry-run prints the commands of any of these and calls nothing

variables (those without a default must be set):
  NAME      of the queued resource and of its slices
  ZONE      such as us-west4-a
  TYPE      accelerator type, such as v5litepod-64
  RUNTIME   runtime version, such as v2-alpha-tpuv5-lite
  NFS       HOST:/EXPORT of a file share, mounted as /mnt/shared on every host (default: none; all is on a bucket)
  CONFIG    such as configs/llama2-7b.yaml
  GENERATE  for `generate`, the words behind `mentallama generate`, such as
            "gs://BUCKET/runs/7b --data gs://BUCKET/imhi:test --out predictions/7b.jsonl --batch-size 256"
  OVERRIDES changes to it, such as "training.run_dir=gs://BUCKET/runs/7b training.seed=1" (default: none)
  SLICES    number of slices (default 1)
  SPOT      1 asks for spot capacity (default 0)
  ATTEMPTS  how often `run` trains at most (default 20)
  WAIT_HOURS how long `wait` waits for chips before it gives up with status 4 (default 24)
  DELETE    what `run` does with the chips at its end: ask, yes or no (default ask; without a terminal no)
TEXT
}

fail() { echo "error: $*" >&2; exit 2; }

# What is so: nothing of it in a dry run.
say() { ((dry)) || echo "$*" >&2; }

need() {
  local variable
  for variable in "$@"; do
    [[ -n "${!variable:-}" ]] || fail "$variable is not set (tpu/queued.sh --help says what it is)"
    [[ ${!variable} != *gs://BUCKET* ]] || fail "$variable holds gs://BUCKET, which stands for a bucket of your own"
    case $variable in
      TYPE) [[ $TYPE != v5e-* ]] || fail "TYPE=$TYPE: the cloud calls it v5litepod-${TYPE#v5e-}" ;;
      CONFIG) [[ $CONFIG != *.yaml || -f $CONFIG ]] || fail "CONFIG=$CONFIG: no such file here" ;;
    esac
  done
  [[ $OVERRIDES != *gs://BUCKET* ]] || fail "OVERRIDES holds gs://BUCKET, which stands for a bucket of your own"
}

SLICES=${SLICES:-1} SPOT=${SPOT:-0} ATTEMPTS=${ATTEMPTS:-20} OVERRIDES=${OVERRIDES:-} GENERATE=${GENERATE:-} NFS=${NFS:-}
WAIT_HOURS=${WAIT_HOURS:-24} DELETE=${DELETE:-ask} dry=0

for number in SLICES ATTEMPTS WAIT_HOURS; do
  [[ ${!number} =~ ^[0-9]{1,5}$ ]] || fail "$number=${!number}: expected a whole number"
done
[[ $DELETE == ask || $DELETE == yes || $DELETE == no ]] || fail "DELETE=$DELETE: expected ask, yes or no"

exec 3>&1

# A word as a shell wants it, quoted where it must be.
quoted() {
  if [[ $1 =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then printf '%s' "$1"; else printf "'%s'" "${1//\'/"'\\''"}"; fi
}

# The one way to the cloud: --dry-run prints what would be called.
cloud() {
  local word line=gcloud
  if ((dry)); then
    for word in "$@"; do line+=" $(quoted "$word")"; done
    echo "$line" >&3  # at once, as slices are called side by side
  else
    gcloud "$@"
  fi
}

nodes() {
  if ((SLICES == 1)); then echo "$NAME"; else for ((i = 0; i < SLICES; i++)); do echo "$NAME-$i"; done; fi
}

# The state of the queued resource; in a dry run the one that is expected, ACTIVE unless $1 is another.
state() {
  cloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='value(state.state)' || echo UNKNOWN
  ((dry == 0)) || echo "${1:-ACTIVE}"
}

# The same command on every host of every slice at once; the status is that of a slice that failed.
on_all() {
  local node pids=() pid status=0
  for node in $(nodes); do
    cloud compute tpus tpu-vm ssh "$node" --zone="$ZONE" --worker=all --command="$1" </dev/null &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
  return "$status"
}

create() {
  need NAME ZONE TYPE RUNTIME
  local which=(--node-id="$NAME")
  ((SLICES == 1)) || which=(--node-count="$SLICES" --node-prefix="$NAME")
  ((SPOT == 0)) || which+=(--spot)
  cloud compute tpus queued-resources create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
    --runtime-version="$RUNTIME" "${which[@]}"
}

# Says each new state. Status 1: the chips were refused or taken away; 4: it gives up waiting.
wait_active() {
  need NAME ZONE
  local now before="" since=$SECONDS unknown=0
  while now=$(state) && [[ $now != ACTIVE ]]; do
    [[ $now != UNKNOWN ]] || unknown=$((unknown + 1))
    if [[ $now == FAILED || $now == SUSPENDED ]]; then
      echo "error: $NAME is $now; gcloud compute tpus queued-resources describe $NAME --zone=$ZONE says why" >&2
      return 1
    elif ((unknown >= 5)); then
      echo "error: $NAME cannot be found in $ZONE; tpu/queued.sh create asks for it" >&2
      return 4
    elif ((SECONDS - since >= WAIT_HOURS * 3600)); then
      echo "error: $NAME is $now after $WAIT_HOURS hours (WAIT_HOURS); it stays in the queue, and is billed once it is" \
        "there: tpu/queued.sh wait waits on, tpu/queued.sh delete gives it up" >&2
      return 4
    fi
    [[ $now == "$before" ]] ||
      echo "$(date +%H:%M) $NAME in $ZONE is $now; waiting for ${TYPE:-chips} at most $WAIT_HOURS hours" >&2
    before=$now
    sleep "${POLL_SECONDS:-30}"
  done
  say "$(date +%H:%M) $NAME in $ZONE is ACTIVE, and billed until it is deleted"
}

# The package wants Python 3.11, and the python3 of TPU VM images is 3.10: 3.11 of apt, or else of uv.
get_python='command -v python3.11 || sudo apt-get install -y python3.11 python3.11-venv || python3 -m pip install --user uv'
make_environment='{ python3.11 -m venv .venv || ~/.local/bin/uv venv --clear --seed --python 3.11 .venv; }'

install() {
  need NAME ZONE
  [[ -f pyproject.toml && -d mentallama_jax ]] || fail "not at the top of the repository"
  on_all "mkdir -p mentallama && { $get_python; }" || return
  [[ -z $NFS ]] || on_all "sudo apt-get install -y nfs-common && sudo mkdir -p /mnt/shared && \
{ mountpoint -q /mnt/shared || sudo mount -t nfs $NFS /mnt/shared; }" || return
  local node
  for node in $(nodes); do
    cloud compute tpus tpu-vm scp --recurse mentallama_jax configs pyproject.toml README.md LICENSE \
      "$node:mentallama/" --zone="$ZONE" --worker=all || return
  done
  on_all "cd mentallama && $make_environment && .venv/bin/pip install --quiet '.[tpu,gcs]'"
}

# Whether a host has a training under way; its program is looked at, as numbers of processes are used again.
runs='grep -qa mentallama "/proc/$(cat train.pid)/cmdline"'

running() {
  ((dry == 0)) && on_all "cd mentallama && $runs" >/dev/null 2>&1
}

# On every host in a session of its own, which a lost connection does not end; its status is written down. A training
# that is under way is not started again. exec: SIGTERM, which a host gets before it is taken away, reaches the command
# itself, and it saves.
start() {
  on_all "cd mentallama && if $runs 2>/dev/null; then echo 'a training is under way already' >&2; exit; fi
rm -f train.status train.pid
cat > train.sh <<'END'
. .venv/bin/activate
(exec mentallama $1 --distributed) &
echo \$! > train.pid
wait \$!
echo \$? > train.status
END
nohup setsid bash train.sh > train.log 2>&1 < /dev/null &
until [ -s train.pid ]; do sleep 0.2; done" || return
  watch
}

train() {
  need NAME ZONE CONFIG
  start "train $CONFIG $OVERRIDES"
}

generate() {
  need NAME ZONE GENERATE
  start "generate $GENERATE"
}

fetch() {
  need NAME ZONE
  local first
  first=$(nodes | head -n 1)
  cloud compute tpus tpu-vm scp --recurse "$first:mentallama/predictions" . --zone="$ZONE" --worker=0
}

# The log of every host until it has written its status. A lost connection is tried again while the chips are there.
watch() {
  need NAME ZONE
  local status now lost
  say "it runs on the hosts; a closed laptop or Ctrl-C leaves it running: tpu/queued.sh watch"
  for ((lost = 0; lost < 5; lost++)); do
    status=0
    on_all 'cd mentallama && { tail -n 20 -F train.log & } && until [ -s train.status ] || ! '"$runs"' 2>/dev/null; do
sleep 2; done; sleep 1; kill $!; exit $(cat train.status || echo 1)' || status=$?
    ((status == 255)) || return "$status"
    now=$(state)
    [[ $now == ACTIVE ]] || return "$status"
    echo "the connection was lost; watching again" >&2
    sleep "${POLL_SECONDS:-30}"
  done
  return "$status"
}

delete() {
  need NAME ZONE
  cloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

# What is billed is not left without a word; where there is nothing, as a wrong TYPE was refused, nothing is offered.
offer_to_delete() {
  local answer=$DELETE
  if ((dry == 0)) && [[ $(state 2>/dev/null) == UNKNOWN ]]; then
    echo "$NAME cannot be found in $ZONE; gcloud compute tpus queued-resources list --zone=$ZONE shows what is there" >&2
    return
  fi
  if [[ $answer == ask && -t 0 && -t 2 && $dry == 0 ]]; then
    read -r -p "$NAME ($TYPE in $ZONE) is billed until it is deleted. Delete it now? [y/N] " answer || answer=no
  fi
  case $answer in
    y | Y | yes) delete ;;
    *) say "$NAME in $ZONE is still there, and billed: tpu/queued.sh delete" ;;
  esac
}

run() {
  need NAME ZONE TYPE RUNTIME CONFIG
  trap 'echo "interrupted; $NAME may be there, and billed: tpu/queued.sh watch, or delete" >&2; exit 130' INT
  local status=0
  train_until_done || status=$?
  offer_to_delete
  return "$status"
}

train_until_done() {
  local attempt status now
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    now=$(state UNKNOWN 2>/dev/null)  # that there is none yet is no error
    [[ $now != SUSPENDED && $now != FAILED ]] || { delete; now=UNKNOWN; }
    [[ $now != UNKNOWN ]] || create || return
    status=0
    wait_active && { running || install; } && train || status=$?
    ((status != 0 && status != 4)) || return "$status"
    now=$(state)
    # 75: stopped and saved itself. 76: lost another host. Hosts that are gone: preempted. All else would fail again.
    ((status == 75 || status == 76)) || [[ $now != ACTIVE ]] || { echo "error: ended with status $status" >&2; return "$status"; }
    echo "attempt $attempt of $ATTEMPTS ended with status $status, $NAME is $now: once more" >&2
  done
  echo "error: not finished after $ATTEMPTS attempts" >&2
  return 75
}

words=()
for word in "$@"; do
  if [[ $word == --dry-run ]]; then dry=1; else words+=("$word"); fi
done
case "${words[*]:-}" in
  -h | --help) usage ;;
  create | install | train | generate | watch | fetch | delete | run) "${words[0]}" ;;
  wait) wait_active ;;
  *) fail "${words[*]:-nothing}: say what to do: create, wait, install, train, generate, watch, fetch, delete or run" \
    "(tpu/queued.sh --help tells all)" ;;
esac
