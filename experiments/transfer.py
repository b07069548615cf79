"""Pre-train on clothes, transfer to animals with ten labels per class; prints the table of docs/results/transfer.md.

    apt-get install dataset-fashion-mnist; pip install --no-deps animal-mnist
    python experiments/transfer.py --place=runs/transfer

Every training is a recipe in a process of its own and is taken from its result.json if it is there, so that the same
command goes on after a stop. About half an hour on two cores.
"""

import argparse
import gzip
import io
import json
import pathlib
import pickle
import statistics
import subprocess
import sys
from importlib import resources

import finished
import keras
import numpy as np

from keras_mixer.benchmark.markdown import table

ROOT = pathlib.Path(__file__).parent.parent
TINY = dict(patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
SEEDS = range(5)
SHOTS, TESTED = 10, 100  # images per class
RATES = "0.01,0.03,0.1"
BLOCK_DIAGONAL = "pre-trained, block-diagonal token MLPs (the paper's start, K = 2)"


def main(place):
    clothes(place / "clothes")
    for seed in SEEDS:
        animals(place / f"animals_{seed}", seed)
    pretrained = place / "pretrained"
    flags = [f"--dataset={place / 'clothes'}", "--image_size=32", "--batch_size=128", "--total_steps=2000"]
    run("pretrain", pretrained, *flags, "--eval_steps=1000", "--log_steps=100")

    starts = {"fine-tuned": lambda seed: pretrained, "from scratch": lambda seed: random_start(place, seed)}
    print(f"pre-training on Fashion-MNIST: top-1 {result(pretrained)['top1']:.1%}")
    other = lambda seed: random_token_mlps(place, pretrained, seed)
    probe = transfer(place, "linear probe", starts["fine-tuned"], 32, "--linear_probe")
    rows = {
        ("pre-trained, fine-tuned", 32): transfer(place, "fine-tuned", starts["fine-tuned"], 32),
        ("from scratch", 32): transfer(place, "from scratch", starts["from scratch"], 32),
        ("linear probe of the pre-trained", 32): probe,
        ("few-shot (least squares) on the pre-trained", 32): ("", fewshot(place, pretrained, 32)),
        (BLOCK_DIAGONAL, 64): transfer(place, "fine-tuned", starts["fine-tuned"], 64),
        ("the same, but token MLPs random", 64): transfer(place, "random token MLPs", other, 64),
    }
    lines = []
    for (name, side), (rate, scores) in rows.items():
        reach = f"{100 * min(scores):.1f} to {100 * max(scores):.1f} %"
        lines.append((name, side, rate, f"{100 * statistics.mean(scores):.1f} %", reach))
    columns = ("start", "px", "learning rate", f"top-1, mean of {len(SEEDS)} seeds", "lowest to highest")
    print("\n" + table(columns, lines))


def run(recipe, workdir, *flags):
    """Run a recipe to its result.json; return that."""
    if finished.result(workdir) is None:
        workdir.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, f"recipes/{recipe}.py", *flags, f"--workdir={workdir}"]
        with open(workdir.with_suffix(".log"), "a") as log:
            subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True)
    return result(workdir)


def result(workdir):
    return json.loads((workdir / "result.json").read_text())


def transfer(place, name, start, side, *flags):
    """Choose the learning rate on half of seed 0's images; return it and the top-1 of every seed."""
    base = place / f"{name.replace(' ', '_')}_{side}"
    flags = [*flags, f"--image_size={side}", "--batch_size=20", "--total_steps=300", "--eval_steps=300"]
    chosen = run(
        "finetune",
        base / "sweep",
        f"--weights={start(0)}",
        f"--dataset={place / 'animals_0'}",
        "--sweep",
        f"--learning_rates={RATES}",
        "--development_fraction=0.5",
        *flags,
    )
    scores = [chosen["top1"]]
    for seed in list(SEEDS)[1:]:
        given = [f"--weights={start(seed)}", f"--dataset={place / f'animals_{seed}'}", f"--seed={seed}"]
        scores.append(
            run("finetune", base / f"seed_{seed}", *given, f"--learning_rate={chosen['learning_rate']}", *flags)["top1"]
        )
    print(f"{name}, {side} px: learning rate {chosen['learning_rate']:g}, {[f'{s:.2%}' for s in scores]}", flush=True)
    return f"{chosen['learning_rate']:g}", scores


def fewshot(place, weights, side):
    scores = []
    for seed in SEEDS:
        flags = [f"--weights={weights}", f"--dataset={place / f'animals_{seed}'}", "--eval_split=test"]
        found = run("fewshot", place / f"fewshot_{side}" / f"seed_{seed}", *flags, f"--shots={SHOTS}", "--seeds=0")
        scores.append(found["results"][0]["top1"])
    return scores


def random_start(place, seed):
    """A Mixer of new weights, as a checkpoint."""
    import keras_mixer

    path = place / f"random_{seed}.npz"
    if not path.exists():
        keras.utils.set_random_seed(seed)
        keras_mixer.save_checkpoint(keras_mixer.MLPMixer(**TINY, input_shape=(32, 32, 3), classes=10), path)
    return path


def random_token_mlps(place, pretrained, seed):
    """The pretrained Mixer at 64 px, but with new token MLPs of the same sizes."""
    import keras_mixer

    path = place / f"random_token_mlps_{seed}.npz"
    if not path.exists():
        keras.utils.set_random_seed(seed)
        model = keras_mixer.MLPMixer(**TINY, weights=pretrained / "model.keras", input_shape=(64, 64, 3))
        for i in range(TINY["num_blocks"]):
            mixing = model.get_layer(f"block_{i}").token_mixing
            for dense in (mixing.dense_0, mixing.dense_1):
                dense.kernel.assign(keras.initializers.LecunNormal()(dense.kernel.shape))
                dense.bias.assign(keras.ops.zeros(dense.bias.shape))
        keras_mixer.save_checkpoint(model, path)
    return path


# ---- Images as class folders ----


def clothes(folder, source=pathlib.Path("/usr/share/datasets/fashion-mnist")):
    """Fashion-MNIST: 1,500 images per class to train on, 100 to test."""
    for split, prefix, count in (("train", "train", 1500), ("test", "t10k", 100)):
        images = np.frombuffer(
            gzip.decompress((source / f"{prefix}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
        )
        labels = np.frombuffer(
            gzip.decompress((source / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
        )
        write_split(folder / split, images.reshape(-1, 28, 28), labels, np.arange(len(labels)), count)


def animals(folder, seed):
    """animal-mnist: `SHOTS` images per class to train on, by the seed, and the same `TESTED` ones to test."""
    data = resources.files("animal_mnist") / "data" / "Animal_MNIST"
    images = read_array((data / "animal_data_version_3.gz").read_bytes()).reshape(-1, 28, 28).astype(np.uint8)
    labels = read_array((data / "animal_label_version_3.gz").read_bytes()).ravel()
    order = np.random.default_rng(0).permutation(len(labels))
    parts = {"test": order[: len(order) // 2], "train": order[len(order) // 2 :]}
    parts["train"] = np.random.default_rng(seed + 1).permutation(parts["train"])
    for split, count in (("train", SHOTS), ("test", TESTED)):
        write_split(folder / split, images, labels, parts[split], count)


def write_split(folder, images, labels, order, count):
    if folder.exists():
        return
    for label in np.unique(labels):
        (folder / f"class_{label}").mkdir(parents=True)
        for i in order[labels[order] == label][:count]:
            pixels = np.repeat(images[i][:, :, None], 3, axis=2)
            keras.utils.save_img(folder / f"class_{label}" / f"{i:05d}.png", pixels, scale=False)


class _ArraysOnly(pickle.Unpickler):
    """The package ships pickles; nothing but NumPy's arrays is let in."""

    def find_class(self, module, name):
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype", "_frombuffer"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")


def read_array(compressed):
    return np.asarray(_ArraysOnly(io.BytesIO(gzip.decompress(compressed))).load())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=pathlib.Path, default=pathlib.Path("runs/transfer"))
    parser.add_argument("--only_clothes", action="store_true", help="make the folder of Fashion-MNIST and stop")
    args = parser.parse_args()
    if args.only_clothes:
        clothes(args.place / "clothes")
    else:
        main(args.place.absolute())
