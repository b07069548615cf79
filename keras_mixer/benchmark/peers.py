"""Models of timm made ready to be timed with PyTorch: its Mixer, the ViT of the same size, and a BiT ResNet-50.

They are computed as timm ships them, weights at random. Needs the extra bench; it may be installed for another Python.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras_mixer.benchmark import throughput
from keras_mixer.benchmark.memory import peak_mib
from keras_mixer.benchmark.throughput import Prepared
from keras_mixer.types import Sizes

if TYPE_CHECKING:
    import torch

KINDS = ("timm", "vit", "resnet")
OPTIONS = ("compiled", "bf16")
VIT_NAMES = {"s": "small", "b": "base", "l": "large", "h": "huge"}
LEARNING_RATE = 1e-3
CLASSES = 1000


def parse(name: str) -> tuple[str, set[str]]:
    """Split a name such as vit_compiled_bf16 into what it is of, and its options.

    Raises:
        ValueError: for another name.

    Example:
        >>> parse("timm_compiled")
        ('timm', {'compiled'})
    """
    kind, *options = name.split("_")
    if kind not in KINDS or not set(options) <= set(OPTIONS) or len(set(options)) < len(options):
        raise ValueError(
            f"compare: {name!r} is unknown; use timm, vit, resnet or keras_vit, the first three also with _compiled, "
            "_bf16 or both, as in timm_compiled."
        )
    return kind, set(options)


def check_python(python: str) -> None:
    """Refuse a Python without torch and timm.

    Raises:
        ValueError: if one is missing, or there is no such program.
    """
    code = "import importlib.util as u; print(*[n for n in ('torch', 'timm') if not u.find_spec(n)])"
    try:
        missing = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"peer_python: {python} does not run ({error}); give a Python with torch and timm.") from None
    if missing:
        raise ValueError(
            f"compare: {' and '.join(missing)} not found; install with pip install 'keras_mixer[bench]', or name a "
            "Python that has torch and timm with --peer_python."
        )


def prepare(
    name: str, model: str, sizes: Sizes, image_size: int, mode: str, batch_size: int, precision: str
) -> Prepared:
    """Return a peer's inference or training step as a `throughput.Prepared`; the step is that of our own model.

    Args:
        name: see `parse`. Without _bf16 it follows `precision`, which is float32, mixed_bfloat16 or bfloat16.
        model, sizes: variant of Mixer that it stands beside, such as b16, or tiny, and its sizes.
        mode: inference (bfloat16: all weights are cast) or training (bfloat16: autocast).
    """
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    kind, options = parse(name)
    bf16 = "bf16" in options or precision != "float32"
    infer = mode == "inference"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    memory = peak_mib
    if device.type == "cuda":
        memory = lambda: torch.cuda.max_memory_allocated() / 2**20
    build = lambda: _build(kind, model, sizes, image_size)
    with torch.device("meta"):  # to count, without memory
        network = build()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, image_size, image_size))
    imports = memory()
    start = time.perf_counter()
    network = build().to(device)
    build_seconds = time.perf_counter() - start
    images = torch.rand(batch_size, 3, image_size, image_size, device=device) * 2 - 1
    labels = torch.randint(0, CLASSES, (batch_size,), device=device)
    facts = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else throughput.cpu_name(),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "precision": "bfloat16" if bf16 else "float32",
        "pid": os.getpid(),
        "build_seconds": build_seconds,
        "imports_mib": imports,
        "built_mib": memory(),
        "gflop_per_image": counter.get_total_flops() / 1e9,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    network.train(not infer)
    if bf16 and infer:
        network, images = network.bfloat16(), images.bfloat16()
    function = torch.compile(network) if "compiled" in options else network
    step = _inference(function, images) if infer else _training(network, function, images, labels, bf16)

    def run(calls: int) -> None:
        for _ in range(calls):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return throughput.Prepared(run, facts, memory)


def _inference(function: Any, images: "torch.Tensor") -> Callable[[], Any]:
    import torch

    def step() -> "torch.Tensor":
        with torch.inference_mode():
            return function(images)

    return step


def _training(
    network: "torch.nn.Module", function: Any, images: "torch.Tensor", labels: "torch.Tensor", bf16: bool
) -> Callable[[], Any]:
    import torch

    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    autocast = torch.autocast(images.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            logits = function(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def _build(kind: str, model: str, sizes: Sizes, image_size: int) -> "torch.nn.Module":
    import timm
    from timm.models import mlp_mixer, vision_transformer

    if kind == "resnet":
        return timm.create_model("resnetv2_50x1_bit", num_classes=CLASSES)
    patch, width = sizes["patch_size"], sizes["hidden_dim"]
    if kind == "timm":
        return mlp_mixer.MlpMixer(
            num_classes=CLASSES,
            img_size=image_size,
            patch_size=patch,
            num_blocks=sizes["num_blocks"],
            embed_dim=width,
            mlp_ratio=(sizes["tokens_mlp_dim"] / width, sizes["channels_mlp_dim"] / width),
        )
    if model[0] in VIT_NAMES and model[1:].isdigit():
        name = f"vit_{VIT_NAMES[model[0]]}_patch{patch}_224"
        return timm.create_model(name, num_classes=CLASSES, img_size=image_size)
    return vision_transformer.VisionTransformer(
        num_classes=CLASSES,
        img_size=image_size,
        patch_size=patch,
        embed_dim=width,
        depth=sizes["num_blocks"],
        num_heads=max(1, width // 64),
    )
