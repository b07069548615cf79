"""A process of benchmark.py that holds one configuration and measures when asked; its argument is JSON."""

import json
import sys
from typing import Any

from keras_mixer import paper
from keras_mixer.benchmark import throughput

DTYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "bfloat16": "bfloat16"}


def main(spec: dict[str, Any]) -> None:
    throughput.serve(lambda: prepare(spec))


def prepare(spec: dict[str, Any]) -> throughput.Prepared:
    if spec["cores"] == "1":
        throughput.use_one_core()
    if spec["kind"] == "peer":
        from keras_mixer.benchmark import peers

        names = ("name", "model", "sizes", "image_size", "mode", "batch_size", "precision")
        return peers.prepare(**{name: spec[name] for name in names})
    import keras  # not before: a peer's Python may have none, and cores must be bound before it is loaded

    from keras_mixer.benchmark import keras_timing

    keras_timing.check_backend(spec.get("compile"))
    if spec["kind"] == "peak":
        return keras_timing.prepare_peak(DTYPES[spec["precision"]], spec["matmul_size"])
    keras.config.set_dtype_policy(spec["precision"])
    sizes = scaled_sizes(spec)
    side = spec["image_size"] or paper.usual_size(spec["model"])
    if spec.get("whole_patches"):
        side = max(1, round(side / sizes["patch_size"])) * sizes["patch_size"]
    builders = {"keras_mixer": build_mixer, "keras_vit": build_vit}
    step = spec["mode"], spec["compile"], spec["batch_size"]
    count: dict[str, Any] = {} if spec["kind"] == "keras_mixer" else {"count": lambda _: {"vit": vit_flop(sizes, side)}}
    prepared = keras_timing.prepare_model(lambda: builders[spec["kind"]](sizes, side), *step, **count)
    prepared.facts |= {"sizes": sizes, "image_size": side}
    return prepared


def scaled_sizes(spec: dict[str, Any]) -> dict[str, Any]:
    """Sizes of --model, with its depth or width changed; the tokens' hidden units stay."""
    sizes = dict(paper.MODELS[spec["model"]])
    sizes["num_blocks"] = max(1, round(sizes["num_blocks"] * spec.get("depth_factor", 1)))
    for name in ("hidden_dim", "channels_mlp_dim"):
        sizes[name] = max(1, round(sizes[name] * spec.get("width_factor", 1)))
    return sizes


def build_mixer(sizes: dict[str, Any], side: int) -> Any:
    import keras_mixer

    return keras_mixer.MLPMixer(**sizes, input_shape=(side, side, 3), classifier_activation=None)


def build_vit(sizes: dict[str, Any], side: int) -> Any:
    """KerasHub's ViT of the same depth, width and patches, with a head for the class token."""
    import keras

    try:
        import keras_hub
    except ImportError as error:
        raise ValueError(
            f"compare: keras_vit needs keras-hub ({error}); install it with pip install 'keras_mixer[bench]'."
        ) from None
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(side, side, 3),
        patch_size=sizes["patch_size"],
        num_layers=sizes["num_blocks"],
        num_heads=max(1, sizes["hidden_dim"] // 64),
        hidden_dim=sizes["hidden_dim"],
        mlp_dim=4 * sizes["hidden_dim"],
    )
    logits = keras.layers.Dense(1000, dtype="float32", name="head")(backbone.output[:, 0])
    return keras.Model(backbone.input, logits)


def vit_flop(sizes: dict[str, Any], side: int) -> Any:
    from keras_mixer import cost_model

    return cost_model.vit_flop(
        side, sizes["patch_size"], sizes["num_blocks"], sizes["hidden_dim"], 4 * sizes["hidden_dim"]
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
