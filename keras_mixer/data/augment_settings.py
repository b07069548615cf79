"""How training images are augmented: the settings of `pipeline.train_batches`."""

import dataclasses

from keras_mixer.data import augment, crops
from keras_mixer.types import Range

AUGMENTATIONS = ("paper", "keras_cv", "hyper_rule", "none")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to the images and labels of a training batch besides decoding and resizing them.

    Attributes:
        augmentation: "paper"; "keras_cv" to have RandAugment and mixup from keras-cv, whose draws do not follow the
            seed; "hyper_rule", BiT's: resize to a square, cut out a random part of it, flip; or "none" to only resize.
        randaugment_magnitude: the paper's m, 0 for none; always two layers. keras_cv: at most 10.
        mixup_alpha: the paper's p, 0 for none.
        cutmix_alpha: of CutMix, 0 for none; with mixup as well, each batch gets one of the two, by an even draw.
        random_erasing_rate: fraction of images of which a rectangle is replaced by noise.
        label_smoothing: fraction of each label that is spread over all classes.
        crop_area: of photographs: smallest and largest fraction of the image that a crop shows; hyper_rule: the same.
        crop_aspect: of photographs: smallest and largest width / height of a crop.
        flip_rate: fraction of photographs that are mirrored left to right.

    Raises:
        ValueError: for a rate or magnitude outside its range, an unknown augmentation, or keras-cv where it is missing.

    Example:
        >>> Augmentation(mixup_alpha=0.5).randaugment_magnitude
        0
    """

    augmentation: str = "paper"
    randaugment_magnitude: float = 0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    random_erasing_rate: float = 0.0
    label_smoothing: float = 0.0
    crop_area: Range = crops.CROP_AREA
    crop_aspect: Range = crops.CROP_ASPECT
    flip_rate: float = 0.5

    def __post_init__(self) -> None:
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation: must be one of {', '.join(AUGMENTATIONS)}, got {self.augmentation!r}.")
        for name in ("mixup_alpha", "cutmix_alpha", "randaugment_magnitude"):
            if not 0 <= getattr(self, name) < float("inf"):
                value = getattr(self, name)
                raise ValueError(f"{name}: must be a number that is not negative, got {value}; use 0 for none.")
        for name in ("random_erasing_rate", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: must be a fraction in [0, 1), got {getattr(self, name)}.")
        crops.check_ranges(self.crop_area, self.crop_aspect)
        if self.augmentation == "hyper_rule" and self.crop_area[0] != self.crop_area[1]:
            raise ValueError(
                f"crop_area: hyper_rule cuts out parts of one size, got {tuple(self.crop_area)}; give one fraction "
                "twice, or a task of VTAB-1k, which sets it."
            )
        if not 0 <= self.flip_rate <= 1:
            rate = self.flip_rate
            raise ValueError(f"flip_rate: must be a fraction in [0, 1], got {rate}; use 0 for no mirror images.")
        if self.augmentation == "keras_cv":
            augment.make_keras_cv_augmenter(self.randaugment_magnitude, self.mixup_alpha)

    @property
    def mixes_rows(self) -> bool:
        """Whether a row of a batch is mixed with the row before it; keras_cv has its own mixup, of random rows."""
        return (self.augmentation != "keras_cv" and bool(self.mixup_alpha)) or bool(self.cutmix_alpha)


DEFAULT_AUGMENTATION = Augmentation()
