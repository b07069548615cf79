"""Pre-train an MLP-Mixer, the way the paper does (section 3, Table 4).

Without flags: a tiny Mixer on scikit-learn's handwritten digits, at least 96 % on other writers' digits in about a
minute on two cores. Running the same command again continues an interrupted run.

    python recipes/pretrain.py
    python recipes/pretrain.py --dataset=path/to/folder --model=s16 --epochs=100
    python recipes/pretrain.py --dataset=imagenet2012 --model=b16 --preset=imagenet1k --strategy=tpu --dry_run
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import logging
from typing import Any

import keras

import keras_mixer
from keras_mixer import arguments
from keras_mixer.cli import closing, entry, inputs, pages, presets, run_plan, training
from keras_mixer.cli.flags import command, setting, settings_class
from keras_mixer.cli.settings import Training
from keras_mixer.paper import HEAD_BIAS, I1K, MODELS
from keras_mixer.training import loop, losses, strategies

logger = logging.getLogger("keras_mixer")


@settings_class
class Settings(Training):
    """Settings of a pre-training run."""

    preset: str | None = setting(
        None,
        "The authors' recipe: imagenet1k, imagenet21k, jft300m, jft300m_7epochs (paper's Table 4), imagenet1k_published"
        " (their code). It sets optimisation, loss, augmentation, ImageNet's splits; flags given by hand win.",
        common=True,
    )
    dry_run: bool = setting(False, "Print what the run would cost, and neither train nor write.", common=True)
    head_bias_init: float | None = setting(
        None, "First value of the head's bias; default 0, the preset's, or -6.9 for --loss=sigmoid."
    )


@inputs.restoring_precision
def run(settings: Settings) -> dict[str, Any] | None:
    """Pre-train as the settings say, and return what result.json holds, or None where the run was finished before."""
    # ---- Settings: by hand, then of the preset ----
    given, (settings, row) = settings, presets.fill(settings, settings.preset)
    losses.get_loss(settings.loss)
    if settings.dry_run:
        print("\n".join(run_plan.plan(settings, settings.preset, row)))
        return None
    arguments.check_grid(settings.image_size, settings.image_size, MODELS[settings.model]["patch_size"], "image_size")
    inputs.set_precision_and_seed(settings)
    strategy = inputs.make_strategy(settings)
    loop.check_batch(settings.batch_size, strategy, settings.gradient_accumulation_steps)

    # ---- Data ----
    train_source, eval_source = inputs.open_sources(settings)
    inputs.check_train_batches(settings, train_source, given)
    if settings.augmentation == "keras_cv":
        logger.warning("augmentation keras_cv follows no seed: this run can be neither repeated nor continued exactly.")
    steps = training.steps_of_run(settings, train_source.num_examples)

    # ---- Model, optimiser ----
    with strategy.scope():
        model = keras_mixer.MLPMixer(
            **MODELS[settings.model],
            weights=settings.weights,
            input_shape=(settings.image_size, settings.image_size, settings.channels),
            classes=len(train_source.class_names),
            classifier_activation=None,
            name=f"mixer_{settings.model}",
            dropout_rate=settings.dropout_rate,
            stochastic_depth_rate=settings.stochastic_depth_rate,
            rescale_stochastic_depth=settings.rescale_stochastic_depth,
            rematerialize=settings.rematerialize,
        )
        set_head_bias(settings, model, given.head_bias_init)
    trainer = training.trainer_of(settings, model, strategy, steps)

    # ---- Train, evaluate every image once, save ----
    origin = training.Origin(pages.about("pretrain", given, settings), row)
    result = training.train_and_evaluate(settings, trainer, train_source, eval_source, steps, origin=origin)
    if result and strategies.is_chief(strategy):
        pages.write_last(settings.workdir)
        more = [
            f"{command('pretrain')} --dataset=path/to/folder --workdir=runs/mine    # your images",
            f"{command('pretrain')} --help    # all flags, and the paper's presets",
        ]
        print(f"In Python: run = keras_mixer.load_run('{settings.workdir}') has predict, model and class_names.")
        print(closing.next_lines(settings, eval_source, more))
    return result


def set_head_bias(settings: Settings, model: keras.Model, by_hand: float | None) -> None:
    """Give a new head its first bias; a head from --weights is left as it is, and takes none that is given by hand."""
    new, value = settings.weights is None or "head/bias" in model.load_report.new, settings.head_bias_init
    if by_hand is not None and (not new or not abs(by_hand) < float("inf")):
        raise ValueError(
            f"head_bias_init: must be a finite number for a new head, got {by_hand}"
            f"{'' if new else ' and a head from --weights'}; leave it out."
        )
    if new:
        bias = model.get_layer("head").bias
        usual = HEAD_BIAS[I1K] if settings.loss == "sigmoid" else 0.0
        bias.assign(keras.ops.full(bias.shape, usual if value is None else value))


if __name__ == "__main__":
    entry.run(Settings, run)
