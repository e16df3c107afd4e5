"""The manifest of a JobSet: its schema, what each field is for, and its command run by two processes here."""

import copy
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jsonschema
import pytest

import jaxrl.errors
from jaxrl import cli, results
from jaxrl.errors import UserError
from jaxrl.executors.jobset import jobset, name_from

ROOT = Path(jaxrl.errors.__file__).parents[1]
SPEC = """
name = "Corridor, 2 hosts"
seeds = 4
[fixed]
env = "probe/chain"
bonus = "count"
num_envs = 2
num_steps = 8
steps = 64
hidden = [4]
epochs = 1
minibatches = 1
evals = 1
eval_episodes = 1
"""


def exactly(required, **optional):
    """An object with the fields of `required`, perhaps those of `optional`, and no others."""
    fields = {**required, **optional}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def listed(items, **bounds):
    return {"type": "array", "items": items, "minItems": 1, **bounds}


LABEL = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}  # RFC 1035
TEXT, POSITIVE, YES = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}, {"const": True}
TEXTS = {"type": "object", "additionalProperties": TEXT}
# What is used of Kubernetes batch/v1 and v1 and of JobSet v1alpha2, after their reference documentation: field names,
# where they stand, which are required, and which values they take.
CONTAINER = exactly(
    {
        "name": LABEL,
        "image": TEXT,
        "command": listed(TEXT),
        "env": listed(
            {
                "oneOf": [
                    exactly({"name": TEXT, "value": TEXT}),
                    exactly({"name": TEXT, "valueFrom": exactly({"fieldRef": exactly({"fieldPath": TEXT})})}),
                ]
            }
        ),
        "resources": exactly({"limits": {"type": "object", "additionalProperties": POSITIVE}}),
        "volumeMounts": listed(
            exactly({"name": LABEL, "mountPath": {"type": "string", "pattern": "^/"}}, readOnly={"type": "boolean"})
        ),
    }
)
VOLUME = {
    "oneOf": [
        exactly({"name": LABEL, "configMap": exactly({"name": LABEL})}),
        exactly({"name": LABEL, "persistentVolumeClaim": exactly({"claimName": TEXT})}),
        exactly({"name": LABEL, "csi": exactly({"driver": TEXT, "volumeAttributes": TEXTS})}),
    ]
}
POD = exactly(
    {
        "restartPolicy": {"const": "Never"},  # a pod failure policy allows no other
        "terminationGracePeriodSeconds": {"type": "integer", "minimum": 30},
        "containers": listed(CONTAINER, maxItems=1),
        "volumes": listed(VOLUME),
    },
    nodeSelector=TEXTS,
)
EXIT_CODES = exactly(
    {
        "containerName": LABEL,
        "operator": {"enum": ["In", "NotIn"]},
        "values": listed({"type": "integer", "minimum": 1, "maximum": 255}, uniqueItems=True),
    }
)
JOB = exactly(
    {
        "completionMode": {"const": "Indexed"},
        "completions": POSITIVE,
        "parallelism": POSITIVE,
        "backoffLimit": {"const": 0},
        "podFailurePolicy": exactly(
            {"rules": listed(exactly({"action": {"enum": ["FailJob", "Ignore", "Count"]}, "onExitCodes": EXIT_CODES}))}
        ),
        "template": exactly({"metadata": exactly({"annotations": TEXTS}), "spec": POD}),
    }
)
RULE = exactly(
    {
        "name": {"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
        "action": {"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
        "onJobFailureReasons": listed(
            {"enum": ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded"]}, uniqueItems=True
        ),
    }
)
JOBSET = exactly(
    {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": exactly({"name": LABEL, "annotations": TEXTS}),
        "spec": exactly(
            {
                "network": exactly({"enableDNSHostnames": YES}),
                "failurePolicy": exactly(
                    {
                        "maxRestarts": POSITIVE,
                        "restartStrategy": {"enum": ["Recreate", "BlockingRecreate"]},
                        "rules": listed(RULE),
                    }
                ),
                "replicatedJobs": listed(
                    exactly({"name": LABEL, "replicas": POSITIVE, "template": exactly({"spec": JOB})}), maxItems=1
                ),
            }
        ),
    }
)
CONFIG = exactly(
    {
        "apiVersion": {"const": "v1"},
        "kind": {"const": "ConfigMap"},
        "metadata": exactly({"name": LABEL}),
        "data": TEXTS,
    }
)
SCHEMA = exactly(
    {
        "apiVersion": {"const": "v1"},
        "kind": {"const": "List"},
        "items": {"type": "array", "prefixItems": [CONFIG, JOBSET], "minItems": 2, "maxItems": 2},
    }
)
VALID = jsonschema.Draft202012Validator(SCHEMA)
VOLUME_CLAIM = {"out": "/results/corridor", "claim": "results"}
TPU = {"tpu_accelerator": "tpu-v6e-slice", "tpu_topology": "4x4"}


def made(**fields):
    return jobset(SPEC, **{"name": "corridor", "image": "registry.example/jaxrl:1", **VOLUME_CLAIM, **fields})


def parts(manifest):
    """(JobSet's spec, job's spec, pod's spec, container)."""
    whole = manifest["items"][1]["spec"]
    job = whole["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    return whole, job, pod, pod["containers"][0]


BUCKET = {"out": "gs://my-bucket/sweeps/corridor", "claim": None}


@pytest.mark.parametrize("fields", [{}, {"hosts": 3}, {"gpus": 8, "hosts": 2}, TPU, {**TPU, **BUCKET}])
def test_the_manifest_keeps_to_the_schema(fields):
    VALID.validate(json.loads(json.dumps(made(**fields))))


def misplaced(manifest):
    job = manifest["items"][1]["spec"]["replicatedJobs"][0]["template"]
    job["podFailurePolicy"] = job["spec"].pop("podFailurePolicy")


def mistyped(manifest):
    parts(manifest)[1]["backofLimit"] = parts(manifest)[1].pop("backoffLimit")


def impatient(manifest):
    parts(manifest)[2]["terminationGracePeriodSeconds"] = 10


def restarted_in_place(manifest):
    parts(manifest)[2]["restartPolicy"] = "OnFailure"


@pytest.mark.parametrize("spoil", [misplaced, mistyped, impatient, restarted_in_place])
def test_the_schema_refuses_what_a_cluster_would(spoil):
    manifest = copy.deepcopy(made(hosts=2))
    spoil(manifest)
    assert not VALID.is_valid(manifest)


def test_a_mistake_in_the_spec_is_not_tried_again_and_everything_else_is():
    whole, job, pod, container = parts(made(hosts=2))
    assert job["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2]}}
    ]
    # The reason that a job gives which a pod failure policy has ended; others fall through to a restart.
    (rule,) = whole["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert whole["failurePolicy"]["maxRestarts"] > 10 and job["backoffLimit"] == 0
    assert pod["terminationGracePeriodSeconds"] >= 30


def test_the_coordinator_is_the_first_pod_by_its_name_in_the_cluster():
    whole, job, _, container = parts(made(hosts=4))
    assert job["completions"] == job["parallelism"] == 4
    env = {entry["name"]: entry for entry in container["env"]}
    replicated = whole["replicatedJobs"][0]["name"]
    assert env["JAXRL_COORDINATOR"]["value"] == f"corridor-{replicated}-0-0.corridor:8476"
    path = env["JAXRL_PROCESS"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_one_host_connects_to_nobody():
    container = parts(made())[3]
    assert container["command"] == ["python", "-m", "jaxrl", "sweep", "$(JAXRL_SPEC)", "--out", "/results/corridor"]


@pytest.mark.parametrize(
    ("topology", "given", "hosts", "chips"),
    [("2x2", None, 1, 4), ("4x4", None, 4, 4), ("2x4", None, 2, 4), ("2x4", 1, 1, 8), ("1x1", None, 1, 1)]
    + [("2x2x4", None, 4, 4)],
)
def test_the_hosts_of_a_tpu_slice_share_its_chips(topology, given, hosts, chips):
    manifest = made(tpu_accelerator="tpu-v5-lite-podslice", tpu_topology=topology, hosts=given)
    _, job, pod, container = parts(manifest)
    assert job["completions"] == hosts and container["resources"]["limits"] == {"google.com/tpu": chips}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": topology,
    }
    together = manifest["items"][1]["metadata"]["annotations"]
    assert together == {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}


def test_results_go_to_a_volume_or_a_bucket():
    _, _, pod, container = parts(made())
    volume, mount = pod["volumes"][1], container["volumeMounts"][1]
    assert volume["persistentVolumeClaim"] == {"claimName": "results"}
    assert (volume["name"], mount["mountPath"]) == (mount["name"], "/results/corridor")
    _, job, pod, container = parts(made(**BUCKET))
    out = container["command"][container["command"].index("--out") + 1]
    assert out == f"{container['volumeMounts'][1]['mountPath']}/sweeps/corridor"
    assert pod["volumes"][1]["csi"]["volumeAttributes"]["bucketName"] == "my-bucket"
    assert job["template"]["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}


def test_nothing_of_the_launching_machine_is_in_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "hunter2hunter2")
    file = tmp_path / "spec.toml"
    file.write_text(SPEC)
    arguments = ["launch", "jobset", str(file), "--image", "i:1", "--out", "/results", "--claim", "c", "--gpus", "1"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    VALID.validate(json.loads(printed))
    assert not re.search("hunter2|key|token|secret", printed, re.IGNORECASE)
    assert str(tmp_path) not in printed and socket.gethostname() not in printed
    assert json.loads(printed)["items"][0]["data"] == {"spec.toml": SPEC}
    assert json.loads(printed)["items"][1]["metadata"]["name"] == "corridor-2-hosts"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hosts": 0}, "hosts = 0: must be at least 1"),
        ({"gpus": -1}, "gpus = -1: must be at least 0"),
        ({"tpu_topology": "4x4"}, "tpu_accelerator and tpu_topology go together"),
        ({**TPU, "gpus": 1}, "a pod has one or the other"),
        ({**TPU, "tpu_topology": "4by4"}, "tpu_topology = '4by4': expected numbers of chips"),
        ({**TPU, "hosts": 3}, "has 16 chips, which 3 hosts cannot share evenly"),
        ({"name": "Corridor"}, "name = 'Corridor': expected at most 47 of a-z"),
        ({"name": "c" * 48}, "expected at most 47 of a-z"),
        ({"image": "a b"}, "image = 'a b': expected the name of a container image"),
        ({"out": "results"}, "out = 'results': expected an absolute directory"),
        ({"claim": None}, "would be lost with its pod"),
        ({"out": "gs://a/../b", "claim": None}, "expected gs://BUCKET/DIRECTORY"),
        ({"out": "gs://my-bucket"}, "results go to a bucket or to a volume"),
    ],
)
def test_a_mistake_is_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        made(**fields)


def test_a_spec_that_is_too_large_is_refused():
    with pytest.raises(UserError, match="at most 1,044,480 fit"):
        jobset(SPEC + "# " * 2**19, name="c", image="i", **VOLUME_CLAIM)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Corridor, 2 hosts", "corridor-2-hosts"), ("8 seeds", "sweep-8-seeds"), ("ä", "sweep"), ("a" * 60, "a" * 40)],
)
def test_a_name_is_made_of_the_specs(text, name):
    assert name_from(text) == name
    jobset(SPEC, name=name_from(text), image="i", hosts=1000, **VOLUME_CLAIM)


def expanded(container, mounted):
    """The container's command as Kubernetes starts it, given what is mounted and known only to the cluster."""
    known = {entry["name"]: mounted.get(entry["name"], entry.get("value")) for entry in container["env"]}
    command = [re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], word) for word in container["command"]]
    assert not any("$(" in word for word in command)
    return command


@pytest.mark.slow
def test_its_command_runs_in_two_processes_of_this_machine(tmp_path):
    manifest = made(hosts=2, out=str(tmp_path / "results"))
    (tmp_path / "mounted.toml").write_text(manifest["items"][0]["data"]["spec.toml"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    environment = {**os.environ, **cache, "PATH": path, "PYTHONPATH": str(ROOT)}
    pods = []
    for index in range(2):
        mounted = {
            "JAXRL_SPEC": str(tmp_path / "mounted.toml"),
            "JAXRL_COORDINATOR": f"127.0.0.1:{port}",
            "JAXRL_PROCESS": str(index),
        }
        command = expanded(parts(manifest)[3], mounted)
        pods.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    printed = [pod.communicate(timeout=240)[0] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], printed
    frame = results.lanes(tmp_path / "results")
    assert sorted(frame["seed"]) == [0, 1, 2, 3] and set(frame["status"]) == {"ok"}
    assert len(results.store.chunks(tmp_path / "results")) == 2
