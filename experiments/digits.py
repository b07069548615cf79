"""The default run on digits for some seeds, and few shots of the first: many_devices.md and transfer.md, docs/results.

    python experiments/digits.py --seeds=5

A run that is finished is not trained again: remove its folder in --output to do so.
"""

import argparse
import pathlib
import subprocess
import sys

import finished

from keras_mixer.benchmark.markdown import table

ROOT = pathlib.Path(__file__).resolve().parent.parent
DRAWS = "0,1,2"


def run(recipe, workdir, *flags):
    """Run a recipe, unless it has been; return its result.json."""
    found = finished.result(workdir)
    if found is None:
        command = [sys.executable, str(ROOT / "recipes" / f"{recipe}.py"), f"--workdir={workdir}", *flags]
        subprocess.run(command, stdout=sys.stderr, check=True)
        found = finished.result(workdir)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/digits"))
    parser.add_argument("--steps", type=int, help="of a training; the recipe's where it is left out")
    args = parser.parse_args()
    steps, rows = [f"--total_steps={args.steps}", "--warmup_steps=0"] if args.steps else [], []
    for seed in range(args.seeds):
        result = run("pretrain", args.output / f"{seed}", f"--seed={seed}", *steps)
        times = f"{result['training_seconds']:.0f}", f"{result['images_per_second']:,.0f}"
        rows.append((seed, f"{100 * result['top1']:.2f} %", *times))
    print(table(("seed", f"top-1 of {result['num_examples']} images", "training seconds", "images/s"), rows))
    shots = run("fewshot", args.output / "fewshot", f"--weights={args.output / '0'}", f"--seeds={DRAWS}")
    columns = ("shots", f"top-1 of {shots['num_examples']} digits", f"deviation over seeds {DRAWS.replace(',', ', ')}")
    score = lambda row: (row["shots"], f"{100 * row['top1']:.2f} %", f"{100 * row['top1_deviation']:.2f} %")
    print(table(columns, [score(row) for row in shots["results"]]))


if __name__ == "__main__":
    main()
