"""What a classifier says of single images: their most probable classes."""

from collections.abc import Sequence
from typing import NamedTuple


class Prediction(NamedTuple):
    """One class of an image.

    Attributes:
        class_id: WordNet id of an ImageNet class, else the index of the class.
        name: of the class.
        probability: fraction, in [0, 1].
    """

    class_id: str | int
    name: str
    probability: float


class ImagePredictions(list[Prediction]):
    """The most probable classes of one image, best first; empty where the image could not be read.

    Attributes:
        image: its path, or for example "image 3" where it came as an array.
        fault: one sentence where it could not be read, else None.
        name, probability: of the best class.
    """

    def __init__(self, image: str, predictions: Sequence[Prediction] = (), fault: str | None = None) -> None:
        super().__init__(predictions)
        self.image, self.fault = image, fault

    @property
    def name(self) -> str:
        return self._best().name

    @property
    def probability(self) -> float:
        return self._best().probability

    def _best(self) -> Prediction:
        if not self:
            raise ValueError(f"{self.image}: has no prediction, since it could not be read: {self.fault}")
        return self[0]
