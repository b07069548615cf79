"""MLP-Mixer as a functional Keras model, the eight variants of the paper and its code, and `preprocess_input`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mixer import arguments, composite, layers
from keras_mixer.paper import VARIANTS
from keras_mixer.types import Config, Tensor, Weights
from keras_mixer.weights.checkpoint import open_checkpoint

DEFAULT_CLASSES = 1000


@keras.saving.register_keras_serializable(package="keras_mixer")
class MLPMixer(keras.Model):
    """MLP-Mixer: patches, N blocks of token and channel mixing, LayerNorm, mean, head (paper section 2).

    Args:
        patch_size: P, side of a patch in pixels.
        num_blocks: N.
        hidden_dim: C, channels of a token.
        tokens_mlp_dim: D_S, hidden units of each token-mixing MLP.
        channels_mlp_dim: D_C, hidden units of each channel-mixing MLP.
        weights: None for a new model; the name of a released checkpoint (see `keras_mixer.list_weights`); or the
            path of an .npz in the released layout, a .keras or a .weights.h5 file.
        include_top: False leaves the head out; see `pooling`.
        input_shape: (H, W, channels), multiples of P; (224, 224, 3) where None.
        classes: K, classes of the head. None takes the checkpoint's, or 1000 without weights. With weights and another
            number, the body is loaded and a zero head is started.
        classifier_activation: "softmax", "sigmoid" or any Keras activation of the float32 logits; None for the logits.
        pooling: with `include_top=False`: None gives tokens (B, S, C) after the last LayerNorm, "avg" their mean
            `pre_logits` (B, C), "max" their maximum (B, C).
        input_tensor: what `keras.Input` or other layers returned, to use as the images instead of `input_shape`.
        dropout_rate: fraction dropped after each Dense layer of the MLPs while training.
        stochastic_depth_rate: fraction of images for which the last block's branches are dropped while training; it
            grows linearly from 0 in the first block.
        rescale_stochastic_depth: True divides a kept branch by 1 - rate, as other Keras layers do; False leaves it
            unchanged, as the authors trained.
        rematerialize: True computes the inside of each block again in the backward pass instead of keeping it: less
            memory, more time, the same gradients. Not with dropout.
        name: of the model.

    Input: images (B, H, W, 3), float in [-1, 1]; see `preprocess_input`.
    Output: (B, K) float32 probabilities, or logits, tokens or features as the arguments say.

    Layers by name: `stem`, `block_0` ..., `pre_head_layer_norm`, `pre_logits`, `head` (the logits), `predictions`.

    Raises:
        ValueError: for an argument outside its range, in one sentence that names it.

    Example:
        >>> model = MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> tuple(model(keras.ops.zeros((1, 16, 16, 3))).shape)
        (1, 10)
    """

    def __init__(
        self,
        patch_size: int,
        num_blocks: int,
        hidden_dim: int,
        tokens_mlp_dim: int,
        channels_mlp_dim: int,
        include_top: bool = True,
        weights: Weights | None = None,
        input_tensor: Tensor | None = None,
        input_shape: tuple[int, int, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | Callable[[Tensor], Tensor] | None = "softmax",
        name: str | None = None,
        *,
        dropout_rate: float = 0.0,
        stochastic_depth_rate: float = 0.0,
        rescale_stochastic_depth: bool = False,
        rematerialize: bool = False,
    ) -> None:
        sizes = arguments.check_positive_int(
            "MLPMixer",
            patch_size=patch_size,
            num_blocks=num_blocks,
            hidden_dim=hidden_dim,
            tokens_mlp_dim=tokens_mlp_dim,
            channels_mlp_dim=channels_mlp_dim,
        )
        rates = arguments.check_rate("MLPMixer", dropout_rate=dropout_rate, stochastic_depth_rate=stochastic_depth_rate)
        arguments.check_bool("MLPMixer", include_top=include_top, rescale_stochastic_depth=rescale_stochastic_depth)
        arguments.check_rematerialize("MLPMixer", rematerialize, dropout_rate)
        if pooling not in (None, "avg", "max"):
            raise ValueError(f"MLPMixer: pooling must be None, 'avg' or 'max', got {pooling!r}.")
        if classes is not None:
            classes = arguments.check_positive_int("MLPMixer", classes=classes)["classes"]
        activation = arguments.check_activation(classifier_activation)
        images, input_shape = arguments.make_images(input_shape, input_tensor, patch_size)
        if weights is not None:
            checkpoint = open_checkpoint(weights, sizes, input_shape[2])
            classes = checkpoint.check_classes(classes, include_top)
            grid = arguments.check_grid(input_shape[0], input_shape[1], patch_size)
            sizes["tokens_mlp_dim"] = checkpoint.tokens_mlp_dim_at(grid)
        classes = classes or DEFAULT_CLASSES
        of_blocks = rates | dict(
            rescale_stochastic_depth=bool(rescale_stochastic_depth), rematerialize=bool(rematerialize)
        )
        kernels = layers.kernel_initializer.set("lecun_normal" if weights is None else "zeros")
        try:
            x = _body(images, sizes, of_blocks)  # (B, S, C)
        finally:
            layers.kernel_initializer.reset(kernels)
        x = _pooled(x, "avg" if include_top else pooling)  # (B, C)
        if include_top:
            x = keras.layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="head")(x)  # (B, K)
            if activation is not None:
                x = keras.layers.Activation(activation, dtype="float32", name="predictions")(x)
        sources = keras.utils.get_source_inputs(images)
        # With other layers before it, it is saved and cloned as the graph of all of them, a plain Keras model.
        self._has_layers_before = sources[0] is not images
        super().__init__(sources if len(sources) > 1 else sources[0], x, name=name or "mlp_mixer")

        self._own_config: Config = dict(
            **sizes,
            include_top=bool(include_top),
            input_shape=input_shape,
            classes=classes,
            classifier_activation=classifier_activation,
            pooling=pooling,
            **of_blocks,
        )
        self._build_policy = keras.config.dtype_policy()
        if weights is not None:
            self.load_report = checkpoint.load_into(self, new_head=True)

    def get_config(self) -> Config:
        if self._has_layers_before:
            return keras.Model(self.inputs, self.outputs, name=self.name).get_config()
        own = self._own_config | {"input_shape": list(self._own_config["input_shape"])}
        if callable(own["classifier_activation"]):
            own["classifier_activation"] = keras.activations.serialize(own["classifier_activation"])
        return {
            **own,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self._build_policy),
            "trainable": self.trainable,
            "parts": composite.get_state(composite.all_parts({layer.name: layer for layer in self.layers})),
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Config | None = None) -> keras.Model:
        if "layers" in config:
            return keras.Model.from_config(config, custom_objects)
        config = dict(config)
        trainable, state = config.pop("trainable", True), config.pop("parts", None)
        frozen = config.pop("frozen_layers", [])  # of a file that was saved before there were `parts`
        policy = keras.saving.deserialize_keras_object(config.pop("dtype"), custom_objects=custom_objects)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            model = cls(**config)
        finally:
            keras.config.set_dtype_policy(before)
        model.trainable = trainable
        for name in frozen:
            model.get_layer(name).trainable = False
        if state:
            composite.set_state(composite.all_parts({layer.name: layer for layer in model.layers}), state)
        return model


def _body(images: Tensor, sizes: dict[str, int], of_blocks: dict[str, Any]) -> Tensor:
    """Return the tokens (B, S, C) of images (B, H, W, 3) after the last LayerNorm."""
    last_rate, last = of_blocks["stochastic_depth_rate"], max(sizes["num_blocks"] - 1, 1)
    x = layers.PatchEmbed(sizes["hidden_dim"], sizes["patch_size"], name="stem")(images)  # (B, H, W, 3) -> (B, S, C)
    for i in range(sizes["num_blocks"]):
        options = of_blocks | {"stochastic_depth_rate": last_rate * i / last, "name": f"block_{i}"}
        x = layers.MixerBlock(sizes["tokens_mlp_dim"], sizes["channels_mlp_dim"], **options)(x)  # (B, S, C)
    return keras.layers.LayerNormalization(epsilon=layers.LAYER_NORM_EPSILON, name="pre_head_layer_norm")(x)


def _pooled(x: Tensor, pooling: str | None) -> Tensor:
    """Return the mean or maximum (B, C) of tokens; in float32 under any policy, as the logits: it costs nothing."""
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling1D("channels_last", dtype="float32", name="pre_logits")(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling1D("channels_last", dtype="float32", name="max_pool")(x)
    return x


# A whole model in the older .h5 format names its class without its package.
keras.saving.get_custom_objects()["MLPMixer"] = MLPMixer

_VARIANT_DOC = """Mixer-{size}/{patch}: {num_blocks} blocks, patches of {patch_size} px, {hidden_dim} channels.

    Every argument is that of `MLPMixer`. {params:,} parameters at 224 px with 1,000 classes (paper Table 1).

    Example:
        >>> model = Mixer{size}{patch}(include_top=False, pooling="avg")  # doctest: +SKIP
        >>> model.output_shape  # doctest: +SKIP
        (None, {hidden_dim})
    """


def _variant(size: str, patch: int, params: int) -> Callable[..., MLPMixer]:
    function_name, config = f"Mixer{size}{patch}", VARIANTS[f"{size}{patch}".lower()]

    def build(
        include_top: bool = True,
        weights: Weights | None = None,
        input_tensor: Tensor | None = None,
        input_shape: tuple[int, int, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | Callable[[Tensor], Tensor] | None = "softmax",
        name: str | None = None,
        *,
        dropout_rate: float = 0.0,
        stochastic_depth_rate: float = 0.0,
        rescale_stochastic_depth: bool = False,
        rematerialize: bool = False,
    ) -> MLPMixer:
        return MLPMixer(
            **config,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name or f"mixer_{size}{patch}".lower(),
            dropout_rate=dropout_rate,
            stochastic_depth_rate=stochastic_depth_rate,
            rescale_stochastic_depth=rescale_stochastic_depth,
            rematerialize=rematerialize,
        )

    build.__name__ = build.__qualname__ = function_name
    build.__doc__ = _VARIANT_DOC.format(size=size, patch=patch, params=params, **config)
    return build


MixerS8 = _variant("S", 8, 20_646_504)
MixerS16 = _variant("S", 16, 18_528_264)
MixerS32 = _variant("S", 32, 19_104_624)
MixerB16 = _variant("B", 16, 59_880_472)
MixerB32 = _variant("B", 32, 60_293_428)
MixerL16 = _variant("L", 16, 208_196_168)
MixerL32 = _variant("L", 32, 206_939_264)
MixerH14 = _variant("H", 14, 432_350_952)


def preprocess_input(images: Tensor, data_format: str | None = None) -> Tensor:
    """Map pixel values from [0, 255] to the model's [-1, 1].

    Args:
        images: (..., H, W, 3), uint8 or float in [0, 255]; a NumPy array or a tensor. It is not changed.
        data_format: taken for likeness with `keras.applications`; the map is that of every pixel, in any format.

    Returns:
        float32, the same shape; a NumPy array for a NumPy array.

    Example:
        >>> preprocess_input(np.array([0, 255], "uint8"))
        array([-1.,  1.], dtype=float32)
    """
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(
            f"preprocess_input: data_format must be None, 'channels_last' or 'channels_first', got {data_format!r}."
        )
    if images is None or isinstance(images, (str, bytes)):
        raise ValueError(f"preprocess_input: images must be an array or tensor of pixels, got {images!r}.")
    if isinstance(images, np.ndarray):
        return images.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return ops.cast(images, "float32") / 127.5 - 1.0
