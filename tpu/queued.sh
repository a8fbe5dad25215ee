#!/usr/bin/env bash
# Training on TPU VMs obtained by queued resources: one slice or several, spot or not.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tpu/queued.sh create | wait | install | train | delete | run     (from the top of the repository)

  create   ask for the slices           wait     until they are there
  install  the package on every host, and the shared folder if there is one
  train    on every host                delete   the slices; bucket and shared folder stay
  run      all of it; after a preemption again from `create`, until the training is finished (does not delete)

variables (those without a default must be set):
  NAME      of the queued resource and of its slices
  ZONE      such as us-west4-a
  TYPE      accelerator type, such as v5litepod-64
  RUNTIME   runtime version, such as v2-alpha-tpuv5-lite
  NFS       HOST:/EXPORT of a file share, mounted as /mnt/shared on every host (default: none; all is on a bucket)
  CONFIG    such as configs/llama2-7b.yaml
  OVERRIDES changes to it, such as "training.run_dir=gs://BUCKET/runs/7b training.seed=1" (default: none)
  SLICES    number of slices (default 1)
  SPOT      1 asks for spot capacity (default 0)
  ATTEMPTS  how often `run` trains at most (default 20)
TEXT
}

fail() { echo "error: $*" >&2; exit 2; }

need() {
  local variable
  for variable in "$@"; do
    [[ -n "${!variable:-}" ]] || fail "$variable is not set (tpu/queued.sh --help says what it is)"
  done
}

SLICES=${SLICES:-1} SPOT=${SPOT:-0} ATTEMPTS=${ATTEMPTS:-20} OVERRIDES=${OVERRIDES:-} NFS=${NFS:-}

nodes() {
  if ((SLICES == 1)); then echo "$NAME"; else for ((i = 0; i < SLICES; i++)); do echo "$NAME-$i"; done; fi
}

state() {
  gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='value(state.state)' || echo UNKNOWN
}

# The same command on every host of every slice at once; the status is that of a slice that failed.
on_all() {
  local node pids=() pid status=0
  for node in $(nodes); do
    gcloud compute tpus tpu-vm ssh "$node" --zone="$ZONE" --worker=all --command="$1" </dev/null &
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
  gcloud compute tpus queued-resources create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
    --runtime-version="$RUNTIME" "${which[@]}"
}

wait_active() {
  need NAME ZONE
  local now
  while now=$(state) && [[ $now != ACTIVE ]]; do
    [[ $now != FAILED && $now != SUSPENDED ]] || { echo "error: $NAME is $now" >&2; return 1; }
    sleep "${POLL_SECONDS:-30}"
  done
}

install() {
  need NAME ZONE
  [[ -f pyproject.toml && -d mentallama_jax ]] || fail "not at the top of the repository"
  on_all "mkdir -p mentallama && sudo apt-get install -y python3.11-venv" || return
  [[ -z $NFS ]] || on_all "sudo apt-get install -y nfs-common && sudo mkdir -p /mnt/shared && \
{ mountpoint -q /mnt/shared || sudo mount -t nfs $NFS /mnt/shared; }" || return
  local node
  for node in $(nodes); do
    gcloud compute tpus tpu-vm scp --recurse mentallama_jax configs pyproject.toml README.md LICENSE \
      "$node:mentallama/" --zone="$ZONE" --worker=all || return
  done
  on_all "cd mentallama && python3.11 -m venv .venv && .venv/bin/pip install --quiet '.[tpu,gcs]'"
}

# exec: SIGTERM, which a host gets before it is taken away, reaches the training itself, and it saves.
train() {
  need NAME ZONE CONFIG
  on_all "cd mentallama && . .venv/bin/activate && exec mentallama train $CONFIG $OVERRIDES --distributed"
}

delete() {
  need NAME ZONE
  gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

run() {
  need NAME ZONE TYPE RUNTIME CONFIG
  local attempt status now
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    now=$(state)
    [[ $now != SUSPENDED && $now != FAILED ]] || { delete; now=UNKNOWN; }
    [[ $now != UNKNOWN ]] || create
    status=0
    wait_active && install && train || status=$?
    ((status != 0)) || return 0
    now=$(state)
    # 75: stopped and saved itself. 76: lost another host. Hosts that are gone: preempted. All else would fail again.
    ((status == 75 || status == 76)) || [[ $now != ACTIVE ]] || { echo "error: ended with status $status" >&2; return "$status"; }
    echo "attempt $attempt of $ATTEMPTS ended with status $status, $NAME is $now: once more" >&2
  done
  echo "error: not finished after $ATTEMPTS attempts" >&2
  return 75
}

case "${1:-}" in
  -h | --help) usage ;;
  create | install | train | delete | run) "$1" ;;
  wait) wait_active ;;
  *) usage >&2; fail "say what to do: create, wait, install, train, delete or run" ;;
esac
