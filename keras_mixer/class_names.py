"""Names of the classes of the released heads, and `decode_predictions`."""

import functools
import pathlib

import keras
import numpy as np

NAMES = {"imagenet1k": 1000, "imagenet21k": 21843}


@functools.cache
def imagenet_classes(name):
    """Return a tuple of (WordNet synset id, lemmas), one for each class of a released head, in its order.

    Args:
        name: "imagenet1k" (1,000 classes) or "imagenet21k" (21,843).

    Raises:
        ValueError: for another name.

    Example:
        >>> imagenet_classes("imagenet1k")[0]
        ('n01440764', 'tench, Tinca tinca')
    """
    if name not in NAMES:
        raise ValueError(f"classes must be 'imagenet1k', 'imagenet21k' or a list of names, got {name!r}.")
    text = (pathlib.Path(__file__).parent / "assets" / f"{name}.tsv").read_text("utf-8")
    return tuple(tuple(line.split("\t")) for line in text.splitlines())


def decode_predictions(predictions, top=5, classes=None):
    """Return the classes with the highest scores of each image, best first.

    Args:
        predictions: (B, K) finite scores, probabilities or logits; an array or a tensor.
        top: how many classes to return for each image, at most K.
        classes: "imagenet1k", "imagenet21k" or a list of K names. None takes ImageNet's names for K = 1,000 and
            ImageNet-21k's for K = 21,843, in the order of the released heads.

    Returns:
        A list for each image of (class id, name, score): the WordNet synset id, or the index for a list of names.

    Raises:
        ValueError: if the scores are not (B, K) and finite, K is not the number of names, or `top` is not in [1, K].

    Example:
        >>> decode_predictions(np.array([[0.1, 0.7, 0.2]]), top=2, classes=["cat", "dog", "fox"])
        [[(1, 'dog', 0.7), (2, 'fox', 0.2)]]
    """
    scores = np.asarray(keras.ops.convert_to_numpy(predictions))
    if scores.ndim != 2 or not np.issubdtype(scores.dtype, np.number) or not np.isfinite(scores).all():
        raise ValueError(
            f"decode_predictions: predictions must be finite scores of shape (images, classes), got {scores.dtype} of "
            f"shape {scores.shape}"
            + ("." if scores.ndim != 2 else ", with a value that is NaN, infinite or no number.")
        )
    width = scores.shape[1]
    if classes is None:
        classes = next((name for name, size in NAMES.items() if size == width), None)
        if classes is None:
            raise ValueError(
                f"decode_predictions: predictions have {width} classes, neither 1000 nor 21843; give classes, a "
                f"list of {width} names."
            )
    if isinstance(classes, str):
        ids, names = zip(*imagenet_classes(classes), strict=True)
    else:
        names = [str(name) for name in classes]
        ids = range(len(names))
    if len(names) != width:
        raise ValueError(f"decode_predictions: predictions have {width} classes, but classes has {len(names)} names.")
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or not 1 <= top <= width:
        raise ValueError(f"decode_predictions: top must be a whole number from 1 to {width}, got {top!r}.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(ids[k], names[k], float(row[k])) for k in order] for row, order in zip(scores, best, strict=True)]
