"""What can be known of a data set without opening it: sizes, classes, digest, source and licence.

`plan` validates specs and fingerprints trials with these facts, so nothing here imports torch or reads a file.
How a data set is read lives in `runners.data`, under the same name.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablations.errors import DatasetError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Facts of one data set with its fixed training, validation and test splits.

    Attributes:
        name: The name in specs and on the command line.
        title: The name that reports print.
        num_classes: Number of classes; labels are 0 to `num_classes - 1`.
        channels: Colour channels per image, 1 or 3.
        image_size: Height and width that a network is given, in pixels.
        train_images: Images in the training split, after the validation split was taken off.
        validation_images: Images in the validation split.
        test_images: Images in the test split.
        digest: SHA-256 (hexadecimal) of the splits' images and labels as `runners.data.content_digest` computes
            it, or None when it can only be known from the user's own files.
        class_names: One name per class in label order, or empty when the user's files give them.
        source: Where the images come from and how the splits were made.
        licence: Licence and copyright holder of the images.

    Raises:
        DatasetError: A count is not positive, or there is not one name per class.
    """

    name: str
    title: str
    num_classes: int
    channels: int
    image_size: int
    train_images: int
    validation_images: int
    test_images: int
    digest: str | None
    class_names: tuple[str, ...]
    source: str
    licence: str

    def __post_init__(self) -> None:
        counts = {
            key: getattr(self, key)
            for key in (
                "num_classes",
                "channels",
                "image_size",
                "train_images",
                "validation_images",
                "test_images",
            )
        }
        wrong = [f"{key}={value}" for key, value in counts.items() if value < 1]
        if wrong:
            raise DatasetError(f"data set {self.name!r}: {', '.join(wrong)}; every count must be at least 1")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise DatasetError(
                f"data set {self.name!r}: {len(self.class_names)} class names for {self.num_classes} classes"
            )


DATASETS: dict[str, DatasetFacts] = {}


def register_dataset(facts: DatasetFacts) -> DatasetFacts:
    """Adds a data set's facts to the registry and returns them.

    Raises:
        DatasetError: The name is taken.
    """
    if facts.name in DATASETS:
        raise DatasetError(f"data set {facts.name!r} is registered twice; choose another name for the second one")
    DATASETS[facts.name] = facts
    return facts


def get_dataset_facts(name: str) -> DatasetFacts:
    """Returns the facts registered under `name`.

    Raises:
        UnknownNameError: No such data set; the message gives the nearest names.
    """
    if name not in DATASETS:
        raise UnknownNameError("data set", name, available_datasets())
    return DATASETS[name]


def available_datasets() -> tuple[str, ...]:
    """Returns every registered name, sorted."""
    return tuple(sorted(DATASETS))


_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FASHION_LICENCE = "MIT, copyright 2017 Zalando SE"

register_dataset(
    DatasetFacts(
        name="fashion_mnist_mini",
        title="Fashion-MNIST (mini)",
        num_classes=10,
        channels=1,
        image_size=28,
        train_images=8_000,
        validation_images=1_000,
        test_images=3_000,
        digest="0633f0dc3dd08cf0b4fbfc807f7da745274ae70cdf53733fce13d31c5bafebc0",
        class_names=_FASHION_CLASSES,
        source=(
            "Embedded in this project: 8,000 training and 1,000 validation images, class-balanced, drawn with a "
            "fixed seed from Fashion-MNIST's training set, and 3,000 test images from its test set (Xiao, Rasul "
            "and Vollgraf, 2017, arXiv:1708.07747)"
        ),
        licence=_FASHION_LICENCE,
    )
)

register_dataset(
    DatasetFacts(
        name="fashion_mnist",
        title="Fashion-MNIST",
        num_classes=10,
        channels=1,
        image_size=28,
        train_images=55_000,
        validation_images=5_000,
        test_images=10_000,
        digest="e244ddfcdcc400ac4653fcba2a25feed7f891fc2ab57c74ea5d79e46039d885a",
        class_names=_FASHION_CLASSES,
        source=(
            "Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747); 5,000 class-balanced validation "
            "images are split off its training set with a fixed seed, its test set is kept whole"
        ),
        licence=_FASHION_LICENCE,
    )
)

register_dataset(
    DatasetFacts(
        name="imagenet",
        title="ImageNet-1k",
        num_classes=1_000,
        channels=3,
        image_size=224,
        train_images=1_271_167,
        validation_images=10_000,
        test_images=50_000,
        digest=None,
        class_names=(),
        source=(
            "ILSVRC 2012 as folders train/<class>/ and val/<class>/; 10,000 class-balanced validation images are "
            "split off the training set with a fixed seed, the official validation set is the test split"
        ),
        licence="ImageNet terms of access: research and education, not redistributed here",
    )
)
