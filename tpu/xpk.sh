#!/usr/bin/env bash
# Training on GKE through xpk: one slice or several, restarted by the cluster.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tpu/xpk.sh [--dry-run] create | delete

  --dry-run prints the command and calls nothing

variables (those without a default must be set):
  CLUSTER   of GKE, made by `xpk cluster create`
  NAME      of the workload
  PROJECT   of Google Cloud
  ZONE      of the cluster
  TYPE      such as v5litepod-64                               (create)
  IMAGE     container image, by tpu/Dockerfile                 (create)
  CONFIG    such as configs/llama2-7b.yaml                     (create)
  OVERRIDES changes to it, such as "training.run_dir=gs://BUCKET/runs/7b" (default: none)
  STORAGE   made by `xpk storage`, for a shared folder (default: none; data, weights and runs are on a bucket)
  SLICES    number of slices (default 1)
  RESTARTS  how often the cluster restarts it at most (default 20)
TEXT
}

fail() { echo "error: $*" >&2; exit 2; }

need() {
  local variable
  for variable in "$@"; do
    [[ -n "${!variable:-}" ]] || fail "$variable is not set (tpu/xpk.sh --help says what it is)"
  done
}

# A word as a shell wants it, quoted where it must be.
quoted() {
  if [[ $1 =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then printf '%s' "$1"; else printf "'%s'" "${1//\'/"'\\''"}"; fi
}

cluster() {
  local word line=xpk
  ((dry)) || exec xpk "$@"
  for word in "$@"; do line+=" $(quoted "$word")"; done
  echo "$line"
}

dry=0 words=()
for word in "$@"; do
  if [[ $word == --dry-run ]]; then dry=1; else words+=("$word"); fi
done
case "${words[*]:-}" in
  -h | --help) usage ;;
  create)
    need CLUSTER NAME PROJECT ZONE TYPE IMAGE CONFIG
    # 75: it was asked to stop and saved itself. 76: it lost another host.
    cluster workload create --cluster="$CLUSTER" --workload="$NAME" --project="$PROJECT" --zone="$ZONE" \
      --tpu-type="$TYPE" --num-slices="${SLICES:-1}" --docker-image="$IMAGE" ${STORAGE:+--storage="$STORAGE"} \
      --max-restarts="${RESTARTS:-20}" --restart-on-exit-codes=75,76 \
      --command="exec mentallama train $CONFIG ${OVERRIDES:-} --distributed"
    ;;
  delete)
    need CLUSTER NAME PROJECT ZONE
    cluster workload delete --cluster="$CLUSTER" --workload="$NAME" --project="$PROJECT" --zone="$ZONE"
    ;;
  *) fail "${words[*]:-nothing}: say what to do: create or delete (tpu/xpk.sh --help tells all)" ;;
esac
