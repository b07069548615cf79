"""From the name of a strategy to a `tf.distribute` strategy, its data, and what its workers agree on."""

import json
import os
import socket
import urllib.parse
from collections.abc import Callable

import tensorflow as tf

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
TPU_PORT = 8470  # where a TPU's address names none
# What the others see when a worker of a multi-worker run goes.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


def make_strategy(name: str, num_devices: int | None = None, tpu: str | None = None) -> tf.distribute.Strategy:
    """Return the strategy called `name`. Make it before anything else of TensorFlow.

    Args:
        name: "one_device"; "mirrored" for all GPUs of this machine; "multi_worker" for the processes that the
            environment variable TF_CONFIG lists; "tpu"; "auto" for multi_worker where TF_CONFIG is set, for mirrored
            where there are several GPUs, and else one_device.
        num_devices: for "mirrored" only: use so many GPUs, or as many logical CPUs where there is no GPU.
        tpu: for "tpu" only: its name or grpc:// address; None or "local" for the TPU of this virtual machine.

    Raises:
        ValueError: for another name, more devices than there are, a TF_CONFIG that is missing or no cluster, or no TPU.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy: must be one of {', '.join(STRATEGIES)}, got {name!r}.")
    if tpu is not None and name != "tpu":
        raise ValueError(f"tpu: {tpu!r} needs --strategy=tpu, got {name}.")
    gpus = [device.name.replace("physical_device:", "") for device in tf.config.list_physical_devices("GPU")]
    if num_devices is not None and num_devices < 1:
        raise ValueError(f"num_devices: must be a positive number, got {num_devices}.")
    if num_devices is not None and name != "mirrored":
        raise ValueError(f"num_devices: {num_devices} needs --strategy=mirrored, got {name}.")
    if gpus and num_devices is not None and num_devices > len(gpus):
        raise ValueError(f"num_devices: {num_devices} devices were asked for, and this machine has {len(gpus)} GPUs.")
    if name == "tpu":
        return _connect_tpu(tpu or "local")
    if name == "multi_worker" or (name == "auto" and os.environ.get("TF_CONFIG")):
        _check_tf_config()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "one_device" or (name == "auto" and len(gpus) < 2):
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if gpus:
        return tf.distribute.MirroredStrategy([f"/gpu:{i}" for i in range(num_devices or len(gpus))])
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(_split_cpu(num_devices or 1))])


def distribute(
    strategy: tf.distribute.Strategy,
    batches: Callable[[tuple[int, int]], tf.data.Dataset],
    batch_size: int,
    neighbours: int = 0,
) -> tf.distribute.DistributedDataset:
    """Return a dataset whose batches are shared by the replicas; each worker makes only its own part.

    Args:
        strategy: from `make_strategy`.
        batches: from a part, (index, count), to a dataset, which has the rows of that part of each global
            batch, as `data.pipeline` makes them.
        batch_size: images in a global batch.
        neighbours: rows of other parts before those of a part; a replica gets as many before its own.
    """
    size = batch_size // strategy.num_replicas_in_sync

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        data = batches((context.input_pipeline_id, context.num_input_pipelines))
        replicas = strategy.num_replicas_in_sync // context.num_input_pipelines

        def of_replica(i: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            begin = lambda x: tf.concat([[i * size], tf.zeros(x.shape.rank - 1, tf.int64)], axis=0)
            return tuple(tf.slice(x, begin(x), [size + neighbours, *x.shape[1:]]) for x in batch)

        def shares(*batch: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.range(replicas).map(lambda i: of_replica(i, batch))

        return data.flat_map(shares).prefetch(2) if replicas > 1 else data

    return strategy.distribute_datasets_from_function(of_worker)


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes train together, each running the same program."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files."""
    if not has_workers(strategy):
        return True
    return is_chief_task(strategy.cluster_resolver)


def is_chief_task(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> bool:
    """Whether the task of a `tf.distribute.cluster_resolver` is the cluster's chief, or where it has none, worker 0."""
    chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not chief and resolver.task_id == 0)


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Return when every worker has come to this call; without other workers at once."""
    check_same_step(strategy, 0)


def check_same_step(strategy: tf.distribute.Strategy, step: int) -> None:
    """Raise a ValueError on every worker unless all of them are about to start from the same step."""
    if not has_workers(strategy):
        return

    def extremes() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        mine = tf.one_hot(context.replica_id_in_sync_group, strategy.num_replicas_in_sync, dtype=tf.float64) * step
        return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    steps = strategy.experimental_local_results(tf.function(lambda: strategy.run(extremes))())[0].numpy()
    if steps.min() != steps.max():
        found = ", ".join(f"{s:.0f}" for s in steps)
        raise ValueError(
            f"workdir: the workers found checkpoints of different steps ({found}); --workdir must be a folder that "
            "all of them share."
        )


def _check_tf_config() -> None:
    text = os.environ.get("TF_CONFIG")
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    if not text:
        raise ValueError(f"strategy: multi_worker needs the environment variable TF_CONFIG, for example {example}.")
    try:
        config = json.loads(text)
        kind, index = config["task"]["type"], config["task"]["index"]
        workers = config["cluster"][kind]
        valid = kind in ("chief", "worker") and isinstance(workers, list) and 0 <= int(index) < len(workers)
    except (ValueError, KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise ValueError(f"strategy: TF_CONFIG is {text!r}, which names no task of a cluster; write it like {example}.")


def _connect_tpu(tpu: str) -> tf.distribute.TPUStrategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        for address in resolver.cluster_spec().as_dict().get("worker", []):
            _check_reachable(address)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = str(error).strip().split("\n")[0].split(" used by {{node")[0].rstrip(".")
        raise ValueError(
            f"tpu: no TPU answers to {tpu!r} ({reason}); on a TPU VM install requirements-tpu.txt and use --tpu=local, "
            "elsewhere give the name or grpc:// address of a TPU."
        ) from None
    return tf.distribute.TPUStrategy(resolver)


def _check_reachable(address: str) -> None:
    # TensorFlow would wait without end, and without a word, for a host of which nothing listens.
    url = urllib.parse.urlsplit(f"//{address}")
    try:
        socket.create_connection((url.hostname, url.port or TPU_PORT), timeout=10).close()
    except OSError as error:
        raise OSError(f"{address}: {error}") from None


def _split_cpu(count: int) -> int:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:  # the devices were made before, which cannot be changed
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise ValueError(
                f"num_devices: {count} logical CPUs were asked for after TensorFlow had started with fewer; "
                "make the strategy first."
            ) from None
    return count
