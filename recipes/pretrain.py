"""Pre-train an MLP-Mixer, the way the paper does (section 3, Table 4).

Without flags: a tiny Mixer on scikit-learn's handwritten digits, at least 96 % on other writers' digits in about a
minute on two cores. Running the same command again continues an interrupted run.

    python recipes/pretrain.py
    python recipes/pretrain.py --dataset=path/to/folder --model=s16 --epochs=100
    python recipes/pretrain.py --dataset=imagenet2012 --model=b16 --preset=imagenet1k --precision=mixed_bfloat16
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import logging
from typing import Any

import keras
from absl import flags

from keras_mixer.cli import presets, shared_flags, training
from keras_mixer.cli.command_line import command
from keras_mixer.training import loop, losses, strategies

FLAGS: Any = flags.FLAGS
logger = logging.getLogger("keras_mixer")
shared_flags.define_common_flags(default_workdir="runs/pretrain")
shared_flags.define_data_flags()
flags.DEFINE_string(
    "preset",
    None,
    "The paper's Table 4 row for the model: imagenet1k, imagenet21k or jft300m. Flags given by hand win.",
)
training.define_training_flags(epochs=100, optimizer="adamw", schedule="linear", learning_rate=3e-3, weight_decay=0.1)
flags.DEFINE_float("head_bias_init", None, "First value of the head's bias; default 0, and -6.9 for --loss=sigmoid.")
flags.DEFINE_float("stochastic_depth_rate", 0.1, "Fraction of images for which the last block is dropped.")
for module in (shared_flags, training):  # so that --help shows their flags
    flags.adopt_module_key_flags(module)


def main(_: list[str]) -> None:
    # ---- Settings: the preset, then flags by hand ----
    shared_flags.check_model_name()
    if FLAGS.preset:
        for name, value in presets.get_preset(FLAGS.preset, FLAGS.model).items():
            if not FLAGS[name].present:
                FLAGS[name].value = value
    loss = losses.get_loss(FLAGS.loss)
    shared_flags.set_precision_and_seed()
    strategy = shared_flags.make_strategy()
    loop.check_batch(FLAGS.batch_size, strategy, FLAGS.gradient_accumulation_steps)

    # ---- Data ----
    train_source, eval_source = shared_flags.open_sources()
    shared_flags.check_train_batches(train_source)
    if FLAGS.augmentation == "keras_cv":
        logger.warning("augmentation keras_cv follows no seed: this run can be neither repeated nor continued exactly.")
    steps = training.steps_of_run(train_source.num_examples)

    # ---- Model, optimiser ----
    with strategy.scope():
        model = shared_flags.build_model(
            len(train_source.class_names),
            dropout_rate=FLAGS.dropout_rate,
            stochastic_depth_rate=FLAGS.stochastic_depth_rate,
            rescale_stochastic_depth=FLAGS.rescale_stochastic_depth,
            rematerialize=FLAGS.rematerialize,
        )
        set_head_bias(model)
    trainer = training.trainer_of_flags(model, loss, strategy, *steps[:2])

    # ---- Train, evaluate every image once, save ----
    result = training.train_and_evaluate(trainer, train_source, eval_source, steps)
    if result and strategies.is_chief(strategy):
        print(
            f"In Python: run = keras_mixer.load_run('{FLAGS.workdir}') has predict, model and class_names. Next:\n"
            f"  {command('plot')} --workdirs={FLAGS.workdir}    # curves as a picture\n"
            f"  tensorboard --logdir {FLAGS.workdir}/tensorboard    # and live\n"
            f"  {command('pretrain')} --dataset=path/to/folder --workdir=runs/mine    # your images\n"
            f"  {command('pretrain')} --help    # all flags, and the paper's presets"
        )


def set_head_bias(model: keras.Model) -> None:
    """Give a new head its first bias; a head that came from --weights is left as it is."""
    new = FLAGS.weights is None or "head/bias" in model.load_report.new
    if FLAGS.head_bias_init is not None and (not new or not abs(FLAGS.head_bias_init) < float("inf")):
        raise ValueError(
            f"head_bias_init: must be a finite number for a new head, got {FLAGS.head_bias_init}"
            f"{'' if new else ' and a head from --weights'}; leave it out."
        )
    if new:
        bias = model.get_layer("head").bias
        value = -6.9 if FLAGS.loss == "sigmoid" else 0.0
        bias.assign(keras.ops.full(bias.shape, value if FLAGS.head_bias_init is None else FLAGS.head_bias_init))


if __name__ == "__main__":
    entry.run(main)
