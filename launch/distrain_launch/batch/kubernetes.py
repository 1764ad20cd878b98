"""Descriptions for Kubernetes, as JSON: a Job for one node, an MPIJob (of Kubeflow's MPI operator) for several.

Kubernetes itself replaces `$(NAME)` in command lines, so every `$` is doubled in them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from distrain.env import THREAD_VARIABLES
from distrain.errors import ArgumentError
from distrain_launch.batch import shell
from distrain_launch.batch.description import Job

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_IMPLEMENTATIONS = {"openmpi": "OpenMPI", "mpich": "MPICH", "intel": "Intel"}
_AS_ROOT = {  # containers run as root, which Open MPI wants to be told; its newer runtime has another name
    f"{prefix}_ALLOW_RUN_AS_ROOT{suffix}": "1" for prefix in ("OMPI", "PRTE") for suffix in ("", "_CONFIRM")
}
_UNBOUND = {  # Open MPI alone reads this: bound to one core, a rank could not use the others that are its own
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}

_JOB = "metadata.labels['batch.kubernetes.io/controller-uid']"  # of all pods of the Job, and of no other Job
_NO_FAILURES = {  # pods that have stopped to be started again, and those that Kubernetes takes away, are replaced
    "rules": [
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]
}
# A pod that is to go gets TERM, at which Open MPI's mpiexec would end the ranks.
_STOPPABLE = """\
trap 'kill -USR1 "$training"' TERM
"$@" & training=$!
while code=0; wait "$training" || code=$?; kill -0 "$training" 2> /dev/null; do :; done
exit "$code"
"""


def script(job: Job) -> str:
    """The job as JSON for `kubectl apply`.

    Raises:
        ArgumentError: it has no image, or asks for what Kubernetes does not have.
    """
    _check(job)
    described = _one_node(job) if job.nodes == 1 else _several_nodes(job)
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _check(job: Job) -> None:
    image = "what is needed must be in the image."
    job.refuse(
        "--kubernetes",
        account="there are no accounts; a namespace is chosen in kubectl's configuration.",
        modules=image,
        setup=image,
        directives="write the description with --dry-run --output and edit it.",
        parallel_environment="it belongs to Grid Engine.",
    )
    if job.requeue_s is not None and job.nodes > 1:
        raise ArgumentError(
            "--requeue: an MPIJob has no words for a pod that has stopped to be started again. Take one node; or start "
            "the job again by hand when it has ended with code 75."
        )
    if job.container is None:
        raise ArgumentError("--kubernetes needs an image with the script, Python and MPI: name it with --container.")
    if not _NAME.fullmatch(job.name):
        raise ArgumentError(f"--name {job.name!r}: Kubernetes takes small letters, digits and dashes, 50 at most.")
    if job.queue is not None and not _LABEL.fullmatch(job.queue):
        raise ArgumentError(f"--queue {job.queue!r}: Kubernetes takes letters, digits and any of _.-, 63 at most.")
    if job.mpi is not None and job.mpi not in _IMPLEMENTATIONS:
        raise ArgumentError(f"--mpi {job.mpi}: the MPI of the image is one of {', '.join(_IMPLEMENTATIONS)}.")


def _one_node(job: Job) -> dict[str, Any]:
    spec: dict[str, Any] = {"backoffLimit": 0}
    if job.time_s is not None:
        spec["activeDeadlineSeconds"] = job.time_s
    pod = _pod({"name": "train", **_image(job), **_starter(job), **_resources(job)})
    if job.requeue_s is not None:
        spec["podFailurePolicy"] = _NO_FAILURES
        pod["terminationGracePeriodSeconds"] = job.requeue_s
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(job),
        "spec": {**spec, "template": {"spec": {"restartPolicy": "Never", **pod}}},
    }


def _several_nodes(job: Job) -> dict[str, Any]:
    policy: dict[str, Any] = {"cleanPodPolicy": "Running", "backoffLimit": 0}
    if job.time_s is not None:
        policy["activeDeadlineSeconds"] = job.time_s
    launcher = {"containers": [{"name": "launcher", **_image(job), **_starter(job)}]}
    worker = _pod({"name": "worker", **_image(job), **_resources(job)})
    return {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": _metadata(job),
        "spec": {
            "mpiImplementation": _IMPLEMENTATIONS[job.mpi or "openmpi"],
            "slotsPerWorker": job.ranks_per_node,
            "runPolicy": policy,
            "mpiReplicaSpecs": {
                "Launcher": {"replicas": 1, "restartPolicy": "Never", "template": {"spec": launcher}},
                "Worker": {"replicas": job.nodes, "restartPolicy": "Never", "template": {"spec": worker}},
            },
        },
    }


def _metadata(job: Job) -> dict[str, Any]:
    about = f"Written by `distrain submit --kubernetes`: {job.summary()}."
    metadata: dict[str, Any] = {"name": job.name, "annotations": {"kubernetes.io/description": about}}
    if job.queue is not None:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": job.queue}
    return metadata


def _image(job: Job) -> dict[str, Any]:
    return {"image": job.container}


def _starter(job: Job) -> dict[str, Any]:
    """The command line of the container that starts the ranks, and what mpiexec finds in its environment."""
    variables = job.variables()
    if job.threads is not None:
        variables |= dict.fromkeys(THREAD_VARIABLES, str(job.threads))
    words = ["env", *(f"{name}={value}" for name, value in variables.items()), job.python, job.script, *job.args]
    if job.shares_gpus:
        words = ["sh", "-c", shell.own_gpu(job, shell.MPIEXEC_LOCAL_RANK), "sh", *words]
    settings = {}
    if job.ranks > 1:
        words = [job.mpiexec, "-n", str(job.ranks), *words]
        settings = {**_AS_ROOT, **_UNBOUND}
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in settings.items()]
    if job.requeue_s is not None:
        words = ["sh", "-c", _STOPPABLE, "sh", *words]
        env += [{"name": "DISTRAIN_JOB", "valueFrom": {"fieldRef": {"fieldPath": _JOB}}}]
        env += [{"name": "DISTRAIN_GRACE", "value": str(job.requeue_s)}]
    return {"command": [_literal(word) for word in words], **({"env": env} if env else {})}


def _resources(job: Job) -> dict[str, Any]:
    """What a node's container gets, at least and at most."""
    amounts: dict[str, str] = {}
    if job.cores_per_rank is not None:
        amounts["cpu"] = str(job.cores_per_node)
    if job.gpus_per_node:
        amounts["nvidia.com/gpu"] = str(job.gpus_per_node)
    return {"resources": {"requests": amounts, "limits": amounts}} if amounts else {}


def _pod(container: dict[str, Any]) -> dict[str, Any]:
    """A pod of one container, with shared memory for MPI: the 64 MiB that containers have are not enough."""
    mounted = {**container, "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}]}
    return {"containers": [mounted], "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}]}


def _literal(text: str) -> str:
    return text.replace("$", "$$")
