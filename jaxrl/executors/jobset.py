"""A sweep on a Kubernetes cluster: the manifest of a JobSet whose pods are the hosts of one run. No jax here.

A pod runs the command that a machine of one's own would: `jaxrl sweep` with its place among the hosts. It ends with 0
(done), 143 (told to end, checkpoint saved) or 2 (a mistake in the spec). The first two differ from the third in that
another try helps: every pod is made anew and goes on from the last checkpoint, unless one ended with 2.
API: JobSet jobset.x-k8s.io/v1alpha2, Kubernetes batch/v1; labels of TPUs and buckets are Google Kubernetes Engine's.
"""

import math
import re
from typing import Any

from jaxrl.errors import UserError

PORT = 8476  # of the coordinator: the one that jax itself takes on TPU pods
GRACE_SECONDS = 60  # ours: a checkpoint takes 25 at most
MAX_RESTARTS = 100  # ours: a preemptible slice is taken away up to once an hour, and a sweep may take days
CHIPS_PER_HOST = 4  # of a TPU slice of several hosts
BAD_CONFIGURATION = 2
SPEC_FOLDER, SPEC_FILE = "/etc/jaxrl", "spec.toml"
BUCKET_FOLDER = "/bucket"
MAX_SPEC_BYTES = 2**20 - 2**12  # a ConfigMap holds 1 MiB
JOB, CONTAINER = "hosts", "sweep"
LONGEST_LABEL = 63  # of a DNS label, which the longest name of a pod must fit in


def jobset(
    spec_text: str,
    *,
    name: str,
    image: str,
    out: str,
    claim: str | None = None,
    hosts: int | None = None,
    gpus: int = 0,
    tpu_accelerator: str | None = None,
    tpu_topology: str | None = None,
) -> dict[str, Any]:
    """The manifest, JSON values for `kubectl apply -f -`: a ConfigMap with the spec and the JobSet that runs it.

    Args:
        spec_text: the TOML spec; whatever code it names must be in the image.
        name: of the JobSet.
        image: container image with jaxrl in it.
        out: directory of the results in the pods, where `claim` is mounted, or gs://BUCKET/DIRECTORY; a bucket needs
            a hierarchical namespace, because results are committed by renaming a directory in one step.
        claim: persistent volume claim that all hosts can write to (ReadWriteMany where there are several).
        hosts: pods; by default one, or as many as a TPU slice has at four chips each.
        gpus: NVIDIA GPUs of a pod.
        tpu_accelerator: of the nodes, as in tpu-v5-lite-podslice or tpu-v6e-slice.
        tpu_topology: of the slice, as in 4x4.

    Raises:
        UserError: an argument that no cluster would accept, or two that contradict each other.
    """
    hosts, resources, selector = _machines(hosts, gpus, tpu_accelerator, tpu_topology)
    _check_name(name, hosts)
    if not re.fullmatch(r"\S+", image):
        raise UserError(f"image = {image!r}: expected the name of a container image")
    if (size := len(spec_text.encode())) > MAX_SPEC_BYTES:
        raise UserError(f"the spec has {size:,} bytes: at most {MAX_SPEC_BYTES:,} fit in a ConfigMap")
    directory, mount, volume, annotations = _storage(out, claim)
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        **({"nodeSelector": selector} if selector else {}),
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": _command(directory, hosts),
                "env": _environment(name),
                "resources": {"limits": resources},
                "volumeMounts": [
                    {"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": True},
                    {"name": "results", "mountPath": mount},
                ],
            }
        ],
        "volumes": [{"name": "spec", "configMap": {"name": name}}, {"name": "results", **volume}],
    }
    no_retry = {"containerName": CONTAINER, "operator": "In", "values": [BAD_CONFIGURATION]}
    job = {
        "completionMode": "Indexed",
        "completions": hosts,
        "parallelism": hosts,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": no_retry}]},
        "template": {"metadata": {"annotations": annotations}, "spec": pod},
    }
    # A slice's hosts must be those of one node pool, or its chips could not reach each other.
    together = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"} if selector else {}
    failure = {
        "maxRestarts": MAX_RESTARTS,
        "restartStrategy": "BlockingRecreate",  # no old process may still write when a new one begins
        "rules": [{"name": "badConfiguration", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }
    jobs = [{"name": JOB, "replicas": 1, "template": {"spec": job}}]
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {SPEC_FILE: spec_text}}
    made = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "annotations": together},
        "spec": {"network": {"enableDNSHostnames": True}, "failurePolicy": failure, "replicatedJobs": jobs},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [config, made]}


def name_from(text: str) -> str:
    """A name that Kubernetes accepts, as near to `text` as it can be."""
    kept = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return (kept if kept[:1].isalpha() else f"sweep-{kept}".strip("-"))[:40].strip("-")


def _command(directory: str, hosts: int) -> list[str]:
    """What a pod runs; Kubernetes puts the value of a variable of `_environment` where $(NAME) stands."""
    command = ["python", "-m", "jaxrl", "sweep", "$(JAXRL_SPEC)", "--out", directory]
    place = ["--hosts", str(hosts), "--coordinator", "$(JAXRL_COORDINATOR)", "--process", "$(JAXRL_PROCESS)"]
    return [*command, *place] if hosts > 1 else command


def _environment(name: str) -> list[dict[str, Any]]:
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    return [
        {"name": "JAXRL_SPEC", "value": f"{SPEC_FOLDER}/{SPEC_FILE}"},
        {"name": "JAXRL_COORDINATOR", "value": f"{name}-{JOB}-0-0.{name}:{PORT}"},
        {"name": "JAXRL_PROCESS", "valueFrom": {"fieldRef": {"fieldPath": index}}},
    ]


def _machines(
    hosts: int | None, gpus: int, accelerator: str | None, topology: str | None
) -> tuple[int, dict[str, int], dict[str, str]]:
    """(hosts, what each of them is given, labels of the nodes)."""
    if hosts is not None and hosts < 1:
        raise UserError(f"hosts = {hosts}: must be at least 1")
    if gpus < 0:
        raise UserError(f"gpus = {gpus}: must be at least 0")
    if (accelerator is None) != (topology is None):
        raise UserError("tpu_accelerator and tpu_topology go together, as in tpu-v6e-slice and 4x4")
    if accelerator is None or topology is None:
        return hosts or 1, {"nvidia.com/gpu": gpus} if gpus else {}, {}
    if gpus:
        raise UserError(f"gpus = {gpus} and tpu_topology = {topology!r}: a pod has one or the other")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", topology):
        raise UserError(f"tpu_topology = {topology!r}: expected numbers of chips, as in 2x4 or 4x4x4")
    chips = math.prod(map(int, topology.split("x")))
    hosts = hosts or max(1, chips // CHIPS_PER_HOST)
    if chips % hosts:
        raise UserError(f"tpu_topology = {topology!r} has {chips} chips, which {hosts} hosts cannot share evenly")
    labels = {"gke-tpu-accelerator": accelerator, "gke-tpu-topology": topology}
    selector = {f"cloud.google.com/{key}": value for key, value in labels.items()}
    return hosts, {"google.com/tpu": chips // hosts}, selector


def _storage(out: str, claim: str | None) -> tuple[str, str, dict[str, Any], dict[str, str]]:
    """(directory of the results, where to mount, the volume, annotations of a pod)."""
    if not out.startswith("gs://"):
        if not out.startswith("/"):
            raise UserError(f"out = {out!r}: expected an absolute directory or gs://BUCKET/DIRECTORY")
        if claim is None:
            raise UserError(f"out = {out!r} would be lost with its pod: name the volume to mount there with --claim")
        return out, out, {"persistentVolumeClaim": {"claimName": claim}}, {}
    bucket, _, path = out.removeprefix("gs://").partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", bucket) or ".." in path:
        raise UserError(f"out = {out!r}: expected gs://BUCKET/DIRECTORY")
    if claim is not None:
        raise UserError(f"out = {out!r} and claim = {claim!r}: results go to a bucket or to a volume")
    # Without the cache a host sees at once what another has committed.
    attributes = {"bucketName": bucket, "mountOptions": "implicit-dirs,metadata-cache:ttl-secs:0"}
    volume = {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}
    directory = f"{BUCKET_FOLDER}/{path}".rstrip("/")
    return directory, BUCKET_FOLDER, volume, {"gke-gcsfuse/volumes": "true"}


def _check_name(name: str, hosts: int) -> None:
    longest = f"{name}-{JOB}-0-{hosts - 1}-12345"  # a pod's name ends in five letters of the cluster's own
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(longest) > LONGEST_LABEL:
        most = LONGEST_LABEL - len(longest) + len(name)
        raise UserError(f"name = {name!r}: expected at most {most} of a-z, 0-9 and -, a letter first")
