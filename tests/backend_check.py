"""Run by test_backends.py under one Keras backend: parity, training, saving. Prints a line per measured difference."""

import sys
import tempfile

import keras
import numpy as np
import tiny
from conftest import GOLDEN

import keras_mixer

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
