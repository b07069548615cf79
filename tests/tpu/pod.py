"""A TPU pod without TPUs: its hosts as processes without Python, its way of sharing the input, and what a host runs.

`TPUStrategy` cannot be made without a TPU. `PodInput` makes the same call for the input as it does (the function
`_distribute_datasets_from_function` of tensorflow/python/distribute/tpu_strategy.py), with the devices of `hosts`.
"""

import contextlib
import pathlib
import subprocess

import c_program
import tensorflow as tf
from cluster import free_ports
from tensorflow.core.protobuf import tensorflow_server_pb2
from tensorflow.python.distribute import input_lib, input_util

SOURCE = pathlib.Path(__file__).parent / "pod_host.c"
PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")  # what numpy_function and py_function make


@contextlib.contextmanager
def hosts(folder, count, cores):
    """Run `count` hosts of `cores` devices each; yield their addresses and their processes."""
    program = c_program.build(SOURCE, folder)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    processes = []
    try:
        for i in range(count):
            server = tensorflow_server_pb2.ServerDef(protocol="grpc", job_name="worker", task_index=i)
            server.cluster.job.add(name="worker").tasks.update(enumerate(addresses))
            server.default_session_config.device_count["CPU"] = cores
            path = folder / f"host_{i}"
            path.write_bytes(server.SerializeToString())
            pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            processes.append(subprocess.Popen([program, path], **pipes))
        for process, address in zip(processes, addresses, strict=True):
            assert process.stdout.readline().strip() == f"grpc://{address}"
        yield addresses, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def device(host, core):
    """The name of a device; its core 0 is where a host makes its input."""
    return f"/job:worker/replica:0/task:{host}/device:CPU:{core}"


class PodInput:
    """The part of a `TPUStrategy` that `strategies.distribute` uses, for so many hosts of so many replicas each.

    Without hosts that run, `at` gives the device of (host, core) on this machine.
    """

    def __init__(self, hosts, cores, at=device):
        self.num_hosts, self.num_replicas_in_sync = hosts, hosts * cores
        self.pairs = [(at(host, 0), [at(host, core) for core in range(cores)]) for host in range(hosts)]

    def distribute_datasets_from_function(self, make):
        count, replicas = self.num_hosts, self.num_replicas_in_sync
        contexts = [tf.distribute.InputContext(count, i, replicas) for i in range(count)]
        workers, local = input_lib.InputWorkers(self.pairs), tf.distribute.MirroredStrategy(["/cpu:0"])
        return input_util.get_distributed_datasets_from_function(make, workers, contexts, local)


def host_python(graph):
    """Return the names of the nodes of a GraphDef that call Python, those in its functions included."""
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    nodes = {"": graph.node, **functions}
    return [f"{name}/{node.name}" for name in nodes for node in nodes[name] if node.op in PYTHON]


def graph_of(dataset):
    """Return the GraphDef that a host gets for a dataset."""
    return tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
