#!/usr/bin/env bash
#SBATCH --job-name=mentallama
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
# Training, or answering, on GPU nodes under Slurm: one process a GPU, which jax finds by Slurm's own variables.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: CONFIG=configs/llama2-7b.yaml sbatch [--nodes=2] tpu/slurm.sh     (from a folder that every node sees)

variables (CONFIG or GENERATE must be set):
  CONFIG    such as configs/llama2-7b.yaml
  OVERRIDES changes to it, such as "training.run_dir=/shared/runs/7b mesh.data=2" (default: none)
  GENERATE  instead of CONFIG, the words behind `mentallama generate`, such as
            "/shared/runs/7b --data /shared/imhi:test --out predictions/7b.jsonl" (default: none)
  VENV      environment with the package and its extra `cuda` (default .venv)

Five minutes before its time is over, the training gets SIGTERM, saves, and the job is queued again.
TEXT
}

fail() { echo "error: $*" >&2; exit 2; }

case "${1:-}" in
  -h | --help) usage; exit ;;
esac
[[ -n "${CONFIG:-}${GENERATE:-}" ]] || fail "CONFIG is not set (tpu/slurm.sh --help says what it is)"
[[ -n "${SLURM_JOB_ID:-}" ]] || fail "not in a Slurm job: start it by sbatch"
[[ -f "${VENV:-.venv}/bin/activate" ]] || fail "no environment in ${VENV:-.venv}: set VENV"
# shellcheck source=/dev/null
. "${VENV:-.venv}/bin/activate"

status=0
words="train ${CONFIG:-} ${OVERRIDES:-}"
[[ -z "${GENERATE:-}" ]] || words="generate $GENERATE"
# They are several words on purpose.
# shellcheck disable=SC2086
srun --kill-on-bad-exit=0 mentallama $words --distributed || status=$?
# 75: it was asked to stop and saved itself. 76: it lost another process.
if ((status == 75 || status == 76)); then
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
