"""The launch scripts, run against stand-ins for gcloud, xpk and Slurm that write down how they are called."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mentallama_jax.cli.main import build_parser
from mentallama_jax.config import load_config

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "tpu").glob("*.sh"))
QUEUED = {
    "NAME": "n", "ZONE": "z", "TYPE": "v5litepod-64", "RUNTIME": "r", "NFS": "10.0.0.2:/share",
    "CONFIG": "configs/llama2-7b.yaml", "OVERRIDES": "training.seed=1", "POLL_SECONDS": "0",
}  # fmt: skip
XPK = QUEUED | {"CLUSTER": "c", "PROJECT": "p", "IMAGE": "i", "STORAGE": "s"}


class Stands:
    """A folder of stand-ins in front of PATH; `calls` are the command lines that they saw, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "calls"

    def add(self, name: str, body: str = "") -> None:
        record = f'printf "%s\\n" "$(basename "$0") $(printf "%q " "$@")" >> {self.log}'
        (self.folder / name).write_text(f"#!/usr/bin/env bash\n{record}\ncd {self.folder}\n{body}\n", "utf-8")
        (self.folder / name).chmod(0o755)

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        paths = f"{self.folder}:{os.environ['PATH']}"
        command = ["bash", str(ROOT / "tpu" / script), *arguments]
        environment = {"PATH": paths, "HOME": str(self.folder), **variables}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def calls(self) -> list[list[str]]:
        return [shlex.split(line) for line in self.log.read_text("utf-8").splitlines()] if self.log.exists() else []


@pytest.fixture
def stands(tmp_path: Path) -> Stands:
    return Stands(tmp_path)


def check_training(command: str) -> None:
    """The real parser takes it, its config exists, its overrides are keys; it replaces the shell around it."""
    start = command.index("mentallama train")
    assert command[:start].endswith("exec ")
    options = build_parser().parse_args(shlex.split(command[start:])[1:])
    load_config(ROOT / options.config, options.overrides)


def of(calls: list[list[str]], words: str) -> list[list[str]]:
    return [call for call in calls if " ".join(call).startswith(words)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script: Path, stands: Stands) -> None:
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)
    helped = stands.run(script.name, "--help")
    assert (helped.returncode, helped.stdout[:6]) == (0, "usage:")
    used = set(re.findall(r"\$\{?([A-Z]{2,}[A-Z_]*)", script.read_text("utf-8")))
    undocumented = {name for name in used - {"SLURM_JOB_ID", "POLL_SECONDS"} if f"\n  {name} " not in helped.stdout}
    assert undocumented == set()
    bare = stands.run(script.name)
    assert bare.returncode == 2
    assert "error: " in bare.stderr


@pytest.mark.parametrize(("script", "variables"), [("queued.sh", QUEUED), ("xpk.sh", XPK)])
@pytest.mark.parametrize("missing", ["NAME", "ZONE", "TYPE"])
def test_a_missing_variable_is_named_before_anything_is_called(
    script: str, variables: dict[str, str], missing: str, stands: Stands
) -> None:
    for name in ("gcloud", "xpk"):
        stands.add(name)
    done = stands.run(script, "create", **{key: value for key, value in variables.items() if key != missing})
    assert done.returncode == 2
    assert f"error: {missing} is not set" in done.stderr
    assert stands.calls() == []


def test_create_asks_for_one_slice_or_several(stands: Stands) -> None:
    stands.add("gcloud")
    assert stands.run("queued.sh", "create", **QUEUED).returncode == 0
    assert stands.run("queued.sh", "create", **QUEUED, SLICES="2", SPOT="1").returncode == 0
    one, two = stands.calls()
    assert one[1:6] == ["compute", "tpus", "queued-resources", "create", "n"]
    assert "--node-id=n" in one
    assert "--spot" not in one
    assert {"--node-count=2", "--node-prefix=n", "--spot"} <= set(two)
    assert "--node-id=n" not in two


def test_a_share_is_mounted_where_there_is_one(stands: Stands) -> None:
    stands.add("gcloud")
    assert stands.run("queued.sh", "install", **QUEUED).returncode == 0
    assert (
        stands.run("queued.sh", "install", **{key: value for key, value in QUEUED.items() if key != "NFS"}).returncode
        == 0
    )
    commands = [call[-1] for call in stands.calls()]
    assert sum("mount -t nfs 10.0.0.2:/share /mnt/shared" in command for command in commands) == 1
    assert sum("'.[tpu,gcs]'" in command for command in commands) == 2


def test_train_runs_on_every_slice_and_fails_with_it(stands: Stands) -> None:
    stands.add("gcloud", '[[ "$*" != *" n-0 "* ]] || exit 75')
    assert stands.run("queued.sh", "train", **QUEUED, SLICES="2").returncode == 75
    calls = stands.calls()
    assert sorted(call[5] for call in calls) == ["n-0", "n-1"]
    assert all("--worker=all" in call for call in calls)
    (command,) = {word.removeprefix("--command=") for call in calls for word in call if word.startswith("--command=")}
    check_training(command)


STATES = """
case "$*" in
  *describe*) cat state 2>/dev/null || exit 1 ;;
  *"queued-resources create"*) echo ACTIVE > state ;;
  *"queued-resources delete"*) rm state ;;
  *"mentallama train"*) echo x >> tries; {ends} ;;
esac
"""


def test_run_goes_on_after_a_stop_and_after_a_preemption(stands: Stands) -> None:
    ends = "case $(wc -l < tries) in 1) exit 75 ;; 2) echo SUSPENDED > state; exit 255 ;; esac"
    stands.add("gcloud", STATES.replace("{ends}", ends))
    done = stands.run("queued.sh", "run", **QUEUED)
    assert done.returncode == 0, done.stderr
    calls = stands.calls()
    prefix = "gcloud compute tpus queued-resources"
    assert [len(of(calls, f"{prefix} {verb}")) for verb in ("create", "delete")] == [2, 1]
    assert sum("mentallama train" in " ".join(call) for call in calls) == 3


@pytest.mark.parametrize(("status", "tries", "ends"), [(2, 1, "exit 2"), (75, 3, "exit 75"), (75, 3, "exit 76")])
def test_run_repeats_no_error_and_not_for_ever(status: int, tries: int, ends: str, stands: Stands) -> None:
    stands.add("gcloud", STATES.replace("{ends}", ends))
    done = stands.run("queued.sh", "run", **QUEUED, ATTEMPTS="3")
    assert done.returncode == status
    assert sum("mentallama train" in " ".join(call) for call in stands.calls()) == tries


def test_xpk(stands: Stands) -> None:
    stands.add("xpk")
    assert stands.run("xpk.sh", "create", **XPK, SLICES="2").returncode == 0
    assert stands.run("xpk.sh", "delete", **XPK).returncode == 0
    create, delete = stands.calls()
    assert create[1:3] == ["workload", "create"]
    assert delete[1:3] == ["workload", "delete"]
    assert {"--num-slices=2", "--restart-on-exit-codes=75,76", "--tpu-type=v5litepod-64", "--storage=s"} <= set(create)
    check_training(create[-1])


@pytest.mark.parametrize(("status", "requeued"), [(0, 0), (75, 1), (76, 1), (2, 0)])
def test_slurm_queues_again_what_stopped_and_saved(status: int, requeued: int, stands: Stands) -> None:
    (stands.folder / "bin").mkdir()
    (stands.folder / "bin/activate").touch()
    stands.add("srun", f"exit {status}")
    stands.add("scontrol")
    variables = {"CONFIG": QUEUED["CONFIG"], "OVERRIDES": "training.seed=1 mesh.data=2", "VENV": str(stands.folder)}
    done = stands.run("slurm.sh", **variables, SLURM_JOB_ID="7")
    assert done.returncode == (0 if requeued else status)
    assert len(of(stands.calls(), "scontrol requeue 7")) == requeued
    check_training(f"exec {shlex.join(stands.calls()[0][2:])}")


FIELDS = {"JobSet": "jobset.x-k8s.io/v1alpha2", "Job": "batch/v1", "Service": "v1"}


def documents(name: str) -> list[dict[str, Any]]:
    return [dict(document) for document in yaml.safe_load_all((ROOT / "tpu" / name).read_text("utf-8"))]


def check_job(job: dict[str, Any]) -> str:
    """What Kubernetes demands of a Job, as far as these use it; its command."""
    pod = job["template"]["spec"]
    assert set(job) <= {"completionMode", "parallelism", "completions", "backoffLimit", "podFailurePolicy", "template"}
    assert job["parallelism"] == job["completions"]
    assert pod["restartPolicy"] == "Never"  # A pod failure policy is refused with any other.
    (container,) = pod["containers"]
    assert {"name", "image", "command", "args", "resources"} <= set(container)
    mounts, volumes = container.get("volumeMounts", []), pod.get("volumes", [])
    assert {mount["name"] for mount in mounts} == {volume["name"] for volume in volumes}
    for rule in job["podFailurePolicy"]["rules"]:
        assert rule["action"] in ("FailJob", "Ignore", "Count")
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        assert rule.get("onExitCodes", {"containerName": container["name"]})["containerName"] == container["name"]
    assert container["command"] == ["sh", "-c"]
    return str(container["args"][0])


def test_jobset() -> None:
    (jobset,) = documents("jobset.yaml")
    assert (jobset["kind"], jobset["apiVersion"]) == ("JobSet", FIELDS["JobSet"])
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    check_training(check_job(job))
    assert job["backoffLimit"] == 0  # One lost pod must restart them all.
    pod = job["template"]["spec"]
    sides = [int(side) for side in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")]
    assert job["parallelism"] * pod["containers"][0]["resources"]["limits"]["google.com/tpu"] == sides[0] * sides[1]
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


def test_kubernetes_gpu() -> None:
    service, job = documents("kubernetes-gpu.yaml")
    kinds = [(each["kind"], each["apiVersion"]) for each in (service, job)]
    assert kinds == [("Service", FIELDS["Service"]), ("Job", FIELDS["Job"])]
    name = job["metadata"]["name"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert service["spec"]["selector"] == {"job-name": name}
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    command = check_job(job["spec"]).replace('"$JOB_COMPLETION_INDEX"', "1")
    assert f"--coordinator {name}-0.{service['metadata']['name']}:8476" in command
    assert f"--processes {job['spec']['completions']} " in command
    check_training(command)
