"""This module defines the facts of one data set, which plans, fingerprints and reports use.

No file is read here, and no torch is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablations.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Facts of one data set with its fixed training, validation and test splits.

    Attributes:
        name: The name in specs and on the command line.
        title: The name that reports print.
        num_classes: Number of classes; labels are 0 to `num_classes - 1`.
        channels: Colour channels per image, 1 or 3.
        image_size: Height and width that a network is given, in pixels.
        train_images: Images in the training split, after the validation split was taken off; 0 if the test split alone
            is known, which is enough for a network that was trained elsewhere.
        validation_images: Images in the validation split; 0 if there are no training images.
        test_images: Images in the test split.
        digest: SHA-256 (hexadecimal) that names the content: of the splits' images and labels as
            `runners.data.content_digest` computes it, of the digests of the publisher's files where the loader takes
            no others, or of the files of a folder. None where only the user's files give it and they are not named.
        class_names: One name per class in label order, or empty when the user's files give them.
        source: The origin of the images and the making of the splits.
        licence: Licence and copyright holder of the images.
        downloads: Whether it can be fetched from the network when that is asked for.
        left_out: The unused content of the user's folder, in words; empty if there is none.
        repeated_test_images: Images of the test split that are among the others too, where files tell.

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
    digest: str | None = None
    class_names: tuple[str, ...] = ()
    source: str = ""
    licence: str = ""
    downloads: bool = False
    left_out: str = ""
    repeated_test_images: int = 0

    def __post_init__(self) -> None:
        counts = ["num_classes", "channels", "image_size", "test_images"]
        if not self.is_test_only:
            counts += ["train_images", "validation_images"]
        wrong = []
        for key in counts:
            if getattr(self, key) < 1:
                wrong.append(f"{key}={getattr(self, key)}")
        if wrong:
            raise DatasetError(f"data set {self.name!r}: {', '.join(wrong)}; every count must be at least 1")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise DatasetError(
                f"data set {self.name!r}: {len(self.class_names)} class names for {self.num_classes} classes"
            )

    @property
    def is_test_only(self) -> bool:
        """True if the test split alone was looked at: nothing can be trained on these facts."""
        return self.train_images == 0 and self.validation_images == 0
