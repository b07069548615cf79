"""Run by test_backends.py under one Keras backend: parity, training, saving. Prints a line per measured difference."""

import sys
import tempfile

import keras
import numpy as np
import tiny
from conftest import GOLDEN

import keras_mixer
from keras_mixer import layers, random_draws

assert keras.backend.backend() == sys.argv[1]

with np.load(GOLDEN / "flax_mixer_tiny.npz") as archive:
    golden = {name: archive[name] for name in archive.files}
folder = tempfile.mkdtemp()
path = tiny.write_checkpoint(golden, f"{folder}/tiny.npz")
model = tiny.build()
keras_mixer.load_checkpoint(model, path)

images = np.asarray(keras_mixer.preprocess_input(golden["images"]))
names = ["stem", "block_0", "block_1", "block_2", "pre_logits", "head"]
outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])
for name, output in zip(names, outputs(images), strict=True):
    expected = golden[f"out/{'logits' if name == 'head' else name}"]
    difference = np.abs(keras.ops.convert_to_numpy(output).reshape(expected.shape) - expected).max()
    print(f"{name} {difference:.1e}")
    assert difference < 1e-5

model.save(f"{folder}/model.keras")
copy = keras.saving.load_model(f"{folder}/model.keras")
assert (copy.predict(images, verbose=0) == model.predict(images, verbose=0)).all()

# A batch in two parts drops the same as the whole, and differently where a part is not told what it is.
dropout, x = layers.Dropout(0.5, seed=1), np.ones((8, 6, 4), "float32")
outputs = []
for parts in ([(0, 8)], [(0, 8), (4, 8)], [None, None]):
    outputs.append([])
    for part in parts:
        dropout.seed_generator.state.assign([1, 0])
        token = random_draws.global_batch.set(part)
        outputs[-1].append(keras.ops.convert_to_numpy(dropout(x[: 8 // len(parts)], training=True)))
        random_draws.global_batch.reset(token)
whole, told, untold = map(np.concatenate, outputs)
assert (told == whole).all()
assert (untold != whole).any()

# Rematerialised blocks train to the same weights, stochastic depth included.
trained = []
for rematerialize in (False, True):
    keras.utils.set_random_seed(0)
    student = tiny.build(stochastic_depth_rate=0.5, rematerialize=rematerialize)
    student.compile(keras.optimizers.SGD(0.1), loss="mse")
    student.fit(images, np.ones((len(images), 10), "float32"), batch_size=8, epochs=3, verbose=0)
    trained.append(student.get_weights())
difference = max(np.abs(plain - again).max() for plain, again in zip(*trained, strict=True))
print(f"rematerialized {difference:.1e}")
assert difference < 1e-6
assert np.abs(trained[0][-1]).max() > 0.01  # it has learnt

# The optimisers and losses use keras.ops only, too.
from keras_mixer.training import losses, optimizers, schedules  # noqa: E402 - after the checks of what needs no training

optimizer = optimizers.make_optimizer("sgd", schedules.WarmupDecay(0.03, 24, 6, "cosine"), model)
model.compile(optimizer, loss=losses.softmax_cross_entropy)
labels = np.eye(10, dtype="float32")[golden["labels"]]
history = model.fit(images, labels, batch_size=8, epochs=24, shuffle=False, verbose=0).history["loss"]
difference = np.abs(np.array(history) - golden["train/finetune_softmax/loss"]).max()
print(f"loss {difference:.1e}")
assert difference < 1e-6
assert "tensorflow" not in sys.modules
