"""From the name of a strategy to a `tf.distribute` strategy."""

import tensorflow as tf

STRATEGIES = ("auto", "one_device", "mirrored")


def make_strategy(name, num_devices=None):
    """Return the strategy called `name`.

    Args:
        name: "one_device"; "mirrored" for all GPUs of this machine; "auto" for mirrored where there are several GPUs.
        num_devices: for "mirrored" only: use so many GPUs, or as many logical CPUs where there is no GPU.

    Raises:
        ValueError: for another name, or more devices than there are.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy: must be one of {', '.join(STRATEGIES)}, got {name!r}.")
    gpus = [device.name.replace("physical_device:", "") for device in tf.config.list_physical_devices("GPU")]
    if num_devices is not None and num_devices < 1:
        raise ValueError(f"num_devices: must be a positive number, got {num_devices}.")
    if num_devices is not None and name != "mirrored":
        raise ValueError(f"num_devices: {num_devices} needs --strategy=mirrored, got {name}.")
    if gpus and num_devices is not None and num_devices > len(gpus):
        raise ValueError(f"num_devices: {num_devices} devices were asked for, and this machine has {len(gpus)} GPUs.")
    if name == "one_device" or (name == "auto" and len(gpus) < 2):
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if gpus:
        return tf.distribute.MirroredStrategy([f"/gpu:{i}" for i in range(num_devices or len(gpus))])
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(_split_cpu(num_devices or 1))])


def _split_cpu(count):
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
