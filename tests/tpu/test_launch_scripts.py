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
        # In one piece, as scripts start several at the same time.
        words = 'printf "%s\\37" "$(basename "$0")" "$@"; printf "\\36"'
        record = (
            f'one=$(mktemp {self.folder}/call.XXXXXX); {{ {words}; }} > "$one"; cat "$one" >> {self.log}; rm "$one"'
        )
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
        calls = self.log.read_text("utf-8").split("\x1e")[:-1] if self.log.exists() else []
        return [call.split("\x1f")[:-1] for call in calls]


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
    undocumented = {
        name for name in used - {"SLURM_JOB_ID", "POLL_SECONDS", "SECONDS"} if f"\n  {name} " not in helped.stdout
    }
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
    stands.add("gcloud", '[[ "$*" != *" n-0 "* || "$*" != *"until [ -s train.status"* ]] || exit 75')
    assert stands.run("queued.sh", "train", **QUEUED, SLICES="2").returncode == 75
    calls = stands.calls()
    assert sorted(call[5] for call in calls) == ["n-0", "n-0", "n-1", "n-1"]  # started, then watched
    assert all("--worker=all" in call for call in calls)
    command, _ = remote(calls)
    (training,) = re.findall(r"^\((exec mentallama train .*)\) &$", command, re.MULTILINE)
    check_training(training)


def test_generate_runs_on_every_host_and_fetch_brings_its_file(stands: Stands) -> None:
    stands.add("gcloud")
    asked = "gs://b/runs/7b --data gs://b/imhi:test --out predictions/7b.jsonl --batch-size 512"
    variables = {name: value for name, value in QUEUED.items() if name != "CONFIG"}
    assert stands.run("queued.sh", "generate", **variables).returncode == 2
    assert stands.run("queued.sh", "generate", **variables, GENERATE=asked).returncode == 0
    (answering,) = re.findall(r"^\(exec (mentallama generate .*)\) &$", remote(stands.calls())[0], re.MULTILINE)
    check_answering(answering, asked)
    assert stands.run("queued.sh", "fetch", **variables, SLICES="2").returncode == 0
    copied = of(stands.calls(), "gcloud compute tpus tpu-vm scp")
    assert [call[5:] for call in copied] == [["--recurse", "n-0:mentallama/predictions", ".", "--zone=z", "--worker=0"]]


def check_answering(command: str, asked: str) -> None:
    """The real parser takes it, with the words that were asked for."""
    words = shlex.split(command)
    assert words == ["mentallama", "generate", *asked.split(), "--distributed"]
    assert build_parser().parse_args(words[1:]).distributed


def remote(calls: list[list[str]]) -> list[str]:
    """What was run on hosts, each command once."""
    commands = [word.removeprefix("--command=") for call in calls for word in call if word.startswith("--command=")]
    return list(dict.fromkeys(commands))


def on_a_host(command: str, home: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run it as the host would, with `mentallama` a script of this text."""
    place = home / "mentallama/.venv/bin"
    place.mkdir(parents=True, exist_ok=True)
    (place / "activate").write_text(f"PATH={place}:$PATH\n")
    (place / "mentallama").write_text(f"#!/usr/bin/env bash\n{program}\n")
    (place / "mentallama").chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return subprocess.run(
        ["bash", "-c", command], cwd=home, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_training_outlives_the_connection_and_is_not_started_twice(stands: Stands, tmp_path: Path) -> None:
    stands.add("gcloud")
    variables = QUEUED | {"OVERRIDES": "data.train='[a b]'"}
    assert stands.run("queued.sh", "train", **variables).returncode == 0
    start, watch = remote(stands.calls())
    program = 'echo "$0 $*" >> calls; printf "%s\\n" "$@"; until [ -f ../go ]; do sleep 0.05; done; exit 75'
    assert on_a_host(start, tmp_path, program).returncode == 0  # it comes back while the training runs
    pid = int((tmp_path / "mentallama/train.pid").read_text())
    assert os.getsid(pid) != os.getsid(0)  # the end of a session does not reach it
    again = on_a_host(start, tmp_path, program)
    assert "under way already" in again.stderr
    (tmp_path / "go").touch()
    watched = on_a_host(watch, tmp_path, program)
    assert watched.returncode == 75
    assert "data.train=[a b]\n" in watched.stdout
    assert len((tmp_path / "mentallama/calls").read_text().splitlines()) == 1


STATES = """
case "$*" in
  *describe*) cat state 2>/dev/null || exit 1 ;;
  *"queued-resources create"*) echo ACTIVE > state ;;
  *"queued-resources delete"*) rm state ;;
  *"mentallama train"*) ;;
  *"until "*) echo x >> tries; {ends} ;;
  *"command=cd mentallama && grep"*) exit 1 ;;
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


def test_wait_says_what_it_waits_for_and_gives_up_with_a_line(stands: Stands) -> None:
    stands.add("gcloud", "echo WAITING_FOR_RESOURCES")
    done = stands.run("queued.sh", "wait", **QUEUED, WAIT_HOURS="0")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: n is WAITING_FOR_RESOURCES after 0 hours (WAIT_HOURS)")
    assert "tpu/queued.sh delete gives it up" in line
    assert stands.run("queued.sh", "run", **QUEUED, WAIT_HOURS="0").returncode == 4  # and `run` asks for no more
    states = (
        "echo x >> looks; case $(wc -l < looks) in 1|2) echo ACCEPTED ;; 3) echo PROVISIONING ;; *) echo ACTIVE ;; esac"
    )
    stands.add("gcloud", states)
    done = stands.run("queued.sh", "wait", **QUEUED)
    assert done.returncode == 0
    said = [line.split(" ", 1)[1] for line in done.stderr.splitlines()]
    assert [line.split(";")[0].split(",")[0] for line in said] == [
        "n in z is ACCEPTED", "n in z is PROVISIONING", "n in z is ACTIVE",
    ]  # fmt: skip
    stands.add("gcloud", "exit 1")
    done = stands.run("queued.sh", "wait", **QUEUED)
    assert (done.returncode, "cannot be found in z" in done.stderr) == (4, True)


def test_what_is_billed_is_deleted_or_named_at_the_end(stands: Stands) -> None:
    stands.add("gcloud", STATES.replace("{ends}", "exit 0"))
    done = stands.run("queued.sh", "run", **QUEUED)
    assert done.returncode == 0
    assert "n in z is still there, and billed: tpu/queued.sh delete" in done.stderr
    assert of(stands.calls(), "gcloud compute tpus queued-resources delete") == []
    assert stands.run("queued.sh", "run", **QUEUED, DELETE="yes").returncode == 0
    assert len(of(stands.calls(), "gcloud compute tpus queued-resources delete")) == 1
    assert stands.run("queued.sh", "run", **QUEUED, DELETE="perhaps").returncode == 2


def test_a_lost_connection_is_watched_again(stands: Stands) -> None:
    stands.add("gcloud", STATES.replace("{ends}", "case $(wc -l < tries) in 1) exit 255 ;; esac"))
    done = stands.run("queued.sh", "run", **QUEUED)
    assert done.returncode == 0
    assert "the connection was lost; watching again" in done.stderr
    calls = stands.calls()
    assert sum("mentallama train" in " ".join(call) for call in calls) == 1
    assert len(of(calls, "gcloud compute tpus queued-resources create")) == 1


@pytest.mark.parametrize("verb", ["create", "wait", "install", "train", "watch", "delete", "run"])
@pytest.mark.parametrize("first", [True, False])
def test_a_dry_run_prints_and_calls_nothing(verb: str, first: bool, stands: Stands) -> None:
    stands.add("gcloud")
    words = ["--dry-run", verb] if first else [verb, "--dry-run"]
    done = stands.run("queued.sh", *words, **QUEUED)
    assert (done.returncode, stands.calls()) == (0, [])
    assert done.stdout.startswith("gcloud compute tpus ")
    assert done.stderr == ""  # no chips are there, and nothing is billed
    if verb == "run":
        verbs = ["queued-resources create", "tpu-vm scp", "exec mentallama"]
        places = [done.stdout.index(words) for words in verbs]
        assert places == sorted(places)


@pytest.mark.parametrize(("script", "variables"), [("queued.sh", QUEUED), ("xpk.sh", XPK)])
def test_a_dry_run_prints_what_a_shell_would_read_back(
    script: str, variables: dict[str, str], stands: Stands, tmp_path: Path
) -> None:
    """The printed lines, given to a shell, are the calls of the run itself."""
    variables = variables | {"OVERRIDES": "data.train='[a b]' training.seed=1"}
    for name in ("gcloud", "xpk"):
        stands.add(name)
    verb = "train" if script == "queued.sh" else "create"
    assert stands.run(script, verb, **variables).returncode == 0
    real = stands.calls()
    stands.log.unlink()
    printed = stands.run(script, "--dry-run", verb, **variables)
    assert (printed.returncode, stands.calls()) == (0, [])
    assert "\\ " not in printed.stdout  # to be read by people
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", printed.stdout], env=environment, check=True, timeout=60)
    assert stands.calls() == real


def test_where_nothing_was_created_nothing_is_said_to_be_billed(stands: Stands) -> None:
    stands.add("gcloud", "echo 'ERROR: no such TYPE' >&2; exit 1")
    done = stands.run("queued.sh", "run", **QUEUED, DELETE="yes")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "ERROR: no such TYPE",  # of create; that there was nothing before is no error
        "n cannot be found in z; gcloud compute tpus queued-resources list --zone=z shows what is there",
    ]
    assert of(stands.calls(), "gcloud compute tpus queued-resources delete") == []


def test_a_wrong_word_is_named_in_a_line(stands: Stands) -> None:
    for script in ("queued.sh", "xpk.sh"):
        done = stands.run(script, "rum", **QUEUED)
        assert (done.returncode, done.stderr.startswith("error: rum: say what to do: ")) == (2, True)
        assert len(done.stderr.splitlines()) == 1


def test_the_hosts_get_a_python_that_the_package_takes(stands: Stands) -> None:
    stands.add("gcloud")
    assert stands.run("queued.sh", "install", **QUEUED).returncode == 0
    text = "\n".join(remote(stands.calls()))
    assert "apt-get install -y python3.11 python3.11-venv || python3 -m pip install --user uv" in text
    assert "python3.11 -m venv .venv || ~/.local/bin/uv venv" in text
    first_block = (ROOT / "tpu/README.md").read_text("utf-8").split("\n    ", 1)[1].split("\n\n")[0]
    assert "python3.11 -m venv .venv" in first_block
    assert not re.search(r"python3 -m venv", first_block)


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


def test_slurm_answers_too(stands: Stands) -> None:
    (stands.folder / "bin").mkdir()
    (stands.folder / "bin/activate").touch()
    stands.add("srun")
    asked = "/shared/runs/7b --data /shared/imhi:test --out 7b.jsonl"
    done = stands.run("slurm.sh", GENERATE=asked, VENV=str(stands.folder), SLURM_JOB_ID="7")
    assert done.returncode == 0, done.stderr
    check_answering(shlex.join(stands.calls()[0][2:]), asked)


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


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CONFIG": "configs/nope.yaml"}, "CONFIG=configs/nope.yaml: no such file here"),
        ({"TYPE": "v5e-64"}, "TYPE=v5e-64: the cloud calls it v5litepod-64"),
        ({"OVERRIDES": "training.run_dir=gs://BUCKET/runs/7b"}, "OVERRIDES holds gs://BUCKET"),
        ({"ZONE": "gs://BUCKET"}, "ZONE holds gs://BUCKET"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_dry_run_too(variables: dict[str, str], said: str, stands: Stands) -> None:
    stands.add("gcloud")
    done = stands.run("queued.sh", "--dry-run", "run", **(QUEUED | variables))
    assert done.returncode == 2
    assert said in done.stderr
    assert (done.stdout, stands.calls()) == ("", [])
