"""Pre-train an MLP-Mixer, the way the paper does (section 3, Table 4).

Without flags: a tiny Mixer on scikit-learn's handwritten digits, at least 96 % on other writers' digits in about a
minute on two cores. Running the same command again continues an interrupted run.

    python recipes/pretrain.py
    python recipes/pretrain.py --dataset=path/to/folder --model=s16 --epochs=100
    python recipes/pretrain.py --dataset=imagenet2012 --model=b16 --preset=imagenet1k --precision=mixed_bfloat16
"""

import common  # first: it imports TensorFlow without its start-up notes

# isort: split
import logging

import keras
from absl import flags

import presets
from keras_mixer.data import pipeline
from keras_mixer.evaluation.classification import make_evaluator
from keras_mixer.training import loop, losses, optimizers, schedules, strategies, workdir

FLAGS = flags.FLAGS
logger = logging.getLogger("keras_mixer")
common.define_common_flags(default_workdir="runs/pretrain")
common.define_data_flags()
flags.DEFINE_string(
    "preset",
    None,
    "The paper's Table 4 row for the model: imagenet1k, imagenet21k or jft300m. Flags given by hand win.",
)
flags.DEFINE_integer("total_steps", None, "Steps of the run; wins over --epochs.")
flags.DEFINE_float("epochs", 100, "Passes over the training images.")
flags.DEFINE_float("learning_rate", 3e-3, "Highest learning rate; it rises linearly, then decays linearly.")
flags.DEFINE_float("weight_decay", 0.1, "Fraction of each kernel removed per step at rate 1 (AdamW).")
flags.DEFINE_integer("warmup_steps", None, "Steps of the linear rise; default a tenth of the run, at most 10,000.")
flags.DEFINE_string("loss", "softmax", "softmax, or sigmoid as in the authors' ImageNet recipe (summed over classes).")
flags.DEFINE_float("head_bias_init", None, "First value of the head's bias; default 0, and -6.9 for --loss=sigmoid.")
flags.DEFINE_float("dropout_rate", 0.0, "Fraction dropped after each Dense layer of the MLPs.")
flags.DEFINE_float("stochastic_depth_rate", 0.1, "Fraction of images for which the last block is dropped.")
flags.DEFINE_integer("checkpoint_steps", 500, "Steps between two checkpoints.")
flags.DEFINE_integer(
    "log_steps", None, "Steps between two rows of metrics.csv; default a pass over the data, at most 100."
)
flags.DEFINE_integer("eval_steps", None, "Steps between two evaluations; default a twelfth of the run.")
flags.DEFINE_boolean("overwrite", False, "Remove the earlier run in --workdir and start anew.")
flags.adopt_module_key_flags(common)  # so that --help shows them

# What may change between a run and its continuation.
FREE_FLAGS = {
    "workdir",
    "overwrite",
    "checkpoint_steps",
    "log_steps",
    "eval_steps",
    "strategy",
    "num_devices",
    "data_dir",
    "manual_dir",
}


def main(_):
    # ---- Settings: the preset, then flags by hand ----
    common.check_model_name()
    if FLAGS.preset:
        for name, value in presets.get_preset(FLAGS.preset, FLAGS.model).items():
            if not FLAGS[name].present:
                FLAGS[name].value = value
    loss = losses.get_loss(FLAGS.loss)
    common.set_precision_and_seed()
    strategy = strategies.make_strategy(FLAGS.strategy, FLAGS.num_devices)
    if FLAGS.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"batch_size: {FLAGS.batch_size} cannot be shared evenly by {strategy.num_replicas_in_sync} devices; "
            "use a multiple."
        )

    # ---- Data ----
    train_source, eval_source = common.open_sources()
    side = common.image_size()

    def batches(start_step):
        return common.train_batches(train_source, start_step)

    batches(0)  # checks its arguments before anything is written
    if FLAGS.augmentation == "keras_cv":
        logger.warning("augmentation keras_cv follows no seed: this run can be neither repeated nor continued exactly.")
    eval_batches = pipeline.eval_batches(eval_source, batch_size=FLAGS.batch_size, image_size=side)
    total_steps = FLAGS.total_steps
    if total_steps is None:
        if not 0 < FLAGS.epochs < float("inf"):
            raise ValueError(f"epochs: must be a positive number, got {FLAGS.epochs}.")
        total_steps = round(FLAGS.epochs * train_source.num_examples / FLAGS.batch_size)
    epoch_steps = max(1, train_source.num_examples // FLAGS.batch_size)
    log_steps = min(100, epoch_steps) if FLAGS.log_steps is None else FLAGS.log_steps
    eval_steps = FLAGS.eval_steps
    if eval_steps is None:  # on the same steps as rows of the log
        eval_steps = max(1, round(total_steps / 12 / max(1, log_steps))) * log_steps
    loop.check_intervals(checkpoint_steps=FLAGS.checkpoint_steps, log_steps=log_steps, eval_steps=eval_steps)
    warmup_steps = FLAGS.warmup_steps
    if warmup_steps is None:
        warmup_steps = min(10_000, total_steps // 10)

    # ---- Model, optimiser ----
    schedule = schedules.WarmupDecay(FLAGS.learning_rate, total_steps, warmup_steps, decay="linear")
    classes = len(train_source.class_names)
    with strategy.scope():
        model = common.build_model(
            classes, dropout_rate=FLAGS.dropout_rate, stochastic_depth_rate=FLAGS.stochastic_depth_rate
        )
        set_head_bias(model)
        optimizer = optimizers.make_optimizer("adamw", schedule, model, weight_decay=FLAGS.weight_decay)
    loop.compile_model(model, optimizer, loss, strategy, FLAGS.precision)

    # ---- Train, evaluate every image once, save ----
    details = {
        "flags": common.settings(),
        "num_parameters": model.count_params(),
        "versions": common.versions(),
    }
    settings = common.settings(FREE_FLAGS) | {
        "total_steps": total_steps,
        "warmup_steps": warmup_steps,
        "class_names": train_source.class_names,
        "train_images": train_source.num_examples,
        "eval_images": eval_source.num_examples,
        "train_files": train_source.fingerprint,
    }
    with workdir.open_workdir(FLAGS.workdir, settings, details, FLAGS.overwrite) as folder:
        print(
            f"Mixer {FLAGS.model}: {model.count_params():,} parameters, {side} px. {train_source.name}: "
            f"{train_source.num_examples:,} images, {classes} classes; {eval_source.name}: "
            f"{eval_source.num_examples:,}. {total_steps} steps of {FLAGS.batch_size} images.",
            flush=True,
        )
        evaluate = make_evaluator(model, eval_batches, loss, strategy)
        with common.naming_unreadable_files(train_source, eval_source):
            summary = loop.train(
                model,
                batches,
                folder,
                batch_size=FLAGS.batch_size,
                total_steps=total_steps,
                strategy=strategy,
                evaluate=evaluate,
                checkpoint_steps=FLAGS.checkpoint_steps,
                log_steps=log_steps,
                eval_steps=eval_steps,
            )
            results = (folder / "result.json", folder / "model.keras")
            if summary["start_step"] >= total_steps and all(path.exists() for path in results):
                print(f"{folder} is finished: {(folder / 'result.json').read_text().strip()}")
                return
            final = summary["evaluation"] or evaluate()
        workdir.save_model(folder / "model.keras", model)
        workdir.write_json(
            folder / "result.json",
            {
                "steps": total_steps,
                "images_seen": total_steps * FLAGS.batch_size,
                **final,
                "resumed_at_step": summary["start_step"],
                "images_per_second": summary["images_per_second"],
                "training_seconds": summary["training_seconds"],
            },
        )
        print(
            f"\ntop-1 {final['top1']:.2%}, top-5 {final['top5']:.2%} on all {final['num_examples']:,} images of "
            f"{eval_source.name}; {summary['training_seconds'] or 0:.0f} s of training at "
            f"{summary['images_per_second'] or 0:.0f} images/s.\n"
            f"The model, images in [-1, 1] to logits: import keras, keras_mixer; "
            f"keras.saving.load_model('{folder / 'model.keras'}'). Next:\n"
            f"  tensorboard --logdir {folder / 'tensorboard'}    # curves\n"
            f"  python recipes/pretrain.py --dataset=path/to/folder --workdir=runs/mine    # your images\n"
            f"  python recipes/pretrain.py --help    # all flags, and the paper's presets"
        )


def set_head_bias(model):
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
    common.run(main)
