"""timm's own training input beside ours: rand-m15-n2 and mixup 0.5 on the same JPEGs, in a process of its own.

The process is this file, run by a Python that has timm and torch. It reads what to do as JSON on its first line, then a
number of batches a line, and answers each with the seconds of CPU time that they took.
"""

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

TRANSFORMS, MIXUP_ALPHA, CLASSES = "rand-m15-n2", 0.5, 1000


@contextlib.contextmanager
def stage(python: str, photos: Sequence[bytes], image_size: int, batch_size: int) -> Iterator[tuple[str, Any]]:
    """Start a process of timm's transforms, and give its name and its stage for `input_speed.measure`.

    Raises:
        ValueError: where the process ends instead of answering.
    """
    with tempfile.TemporaryDirectory() as folder:
        for k, photo in enumerate(photos):
            (pathlib.Path(folder) / f"{k:05d}.jpg").write_bytes(photo)
        command = [python, __file__]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            ask = lambda question: _asked(process, question)
            try:
                told = ask(json.dumps({"folder": folder, "image_size": image_size, "batch_size": batch_size}))
                yield f"timm {told}, {TRANSFORMS} and mixup", (lambda batches: float(ask(str(batches))), batch_size)
            finally:
                process.kill()


def _asked(process: "subprocess.Popen[str]", question: str) -> str:
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    try:
        process.stdin.write(question + "\n")
        process.stdin.flush()
        answer = process.stdout.readline().strip()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise ValueError("compare: the process of timm ended; what it said stands above. Give another --peer_python.")
    return answer


def main() -> None:
    """Answer the questions on standard input."""
    import PIL
    import timm
    import torch

    torch.set_num_threads(1)
    told = json.loads(sys.stdin.readline())
    batch = _batches([p.read_bytes() for p in sorted(pathlib.Path(told["folder"]).iterdir())], told)
    batch()
    print(f"{timm.__version__} with Pillow {PIL.__version__}", flush=True)
    for line in sys.stdin:
        start = time.process_time()
        for _ in range(int(line)):
            batch()
        print(time.process_time() - start, flush=True)


def _batches(files: list[bytes], told: dict[str, Any]) -> Callable[[], Any]:
    """Return a function that makes the next batch, as timm's loader does: mixed as uint8, then normalised."""
    import torch
    from PIL import Image
    from timm.data import create_transform
    from timm.data.mixup import FastCollateMixup

    transform = create_transform(
        told["image_size"], is_training=True, use_prefetcher=True, auto_augment=TRANSFORMS, interpolation="bilinear"
    )
    collate = FastCollateMixup(mixup_alpha=MIXUP_ALPHA, num_classes=CLASSES)
    place = 0

    def batch() -> Any:
        nonlocal place
        examples = []
        for _ in range(told["batch_size"]):
            image = Image.open(io.BytesIO(files[place % len(files)])).convert("RGB")
            examples.append((transform(image), place % CLASSES))
            place += 1
        images, labels = collate(examples)
        return images.to(torch.float32).sub_(127.5).div_(127.5), labels

    return batch


if __name__ == "__main__":
    main()
