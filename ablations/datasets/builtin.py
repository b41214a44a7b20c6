"""This module describes the data sets of the project: facts of those in memory, and layouts of those in folders.

`ablations.datasets.registry` registers them, together with a user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.folder_contents import FolderContent, read_folder
from ablations.datasets.folders import (
    Listing,
    list_held_out,
    list_image_folder,
    list_tiny_imagenet,
    list_tiny_imagenet_test,
    list_train_val,
    list_val,
)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The counts of a folder set, known without its files; validation images are split off the training ones."""

    num_classes: int
    train_images: int
    validation_images: int
    test_images: int


@dataclass(frozen=True, kw_only=True)
class FolderSet:
    """A data set that lies in folders of image files, read batch by batch; images are made square RGB.

    Attributes:
        name: The name in specs and on the command line.
        title: The name that reports print.
        image_size: Side in pixels that a network is given unless `data.image_size` says otherwise.
        layout: The function that lists its files, given folder, name and expected number of classes.
        source: The origin of the images and the making of the splits.
        licence: Licence of the images.
        test_layout: The function that lists its test split alone, for networks that were trained elsewhere; `None` if
            all of its files are needed for that.
        expected: Its counts as far as they are known without its files, or None if everything depends on them.
        how_to_get: The origin and layout of its files, a clause after "needs data.root: ".
        resize_ratio: Images to be evaluated are resized to this times their final size, and the middle is cut out.
    """

    name: str
    title: str
    image_size: int
    layout: Callable[[Path, str, int | None], Listing]
    source: str
    licence: str
    test_layout: Callable[[Path, str, int | None], Listing] | None = None
    expected: Expected | None = None
    how_to_get: str = "the folder of its files"
    # The usual evaluation of ImageNet networks: the shorter side becomes 256 pixels, the middle 224 are used.
    resize_ratio: float = 256 / 224

    @property
    def needs_root(self) -> str:
        """The message for a folder that is needed and not named."""
        return f"{self.title} needs data.root: {self.how_to_get}"

    def list_files(self, root: Path, *, test_only: bool = False) -> Listing:
        """List the files below `root`, or those of the test split alone.

        Raises:
            DatasetError: The folder does not have the layout.
        """
        layout = self.layout
        if test_only and self.test_layout is not None:
            layout = self.test_layout
        return layout(root, self.name, self.expected.num_classes if self.expected else None)

    def read(self, root: Path, *, test_only: bool = False) -> FolderContent:
        """List the files below `root`, or those of the test split, and read those that are new or have changed.

        Raises:
            DatasetError: The folder does not have the layout, or files in it are no pictures; the message names them.
        """
        return read_folder(self.name, self.list_files(root, test_only=test_only))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FASHION_CLASSES = (*_words("T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag"), "Ankle boot")
_FASHION_LICENCE = "MIT, copyright 2017 Zalando SE"

_CIFAR10_CLASSES = _words("airplane automobile bird cat deer dog frog horse ship truck")
_CIFAR100_CLASSES = _words(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
_IMAGENET_LICENCE = "ImageNet terms of access: research and education, not redistributed here"
_CIFAR_LICENCE = "none stated by the publisher, who asks for a citation; not redistributed here"
_CIFAR_SPLITS = (
    "5,000 class-balanced validation images are split off its training set with a fixed seed, its test set is kept "
    "whole. The digest is of the publisher's MD5 sums, and no other files are read"
)

IN_MEMORY = (
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
    ),
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
        downloads=True,
    ),
    DatasetFacts(
        name="cifar10",
        title="CIFAR-10",
        num_classes=10,
        channels=3,
        image_size=32,
        train_images=45_000,
        validation_images=5_000,
        test_images=10_000,
        digest="293001d707596bcfd8085a27bb3eb78763e07255353d484fc64199894563f733",
        class_names=_CIFAR10_CLASSES,
        source=f"CIFAR-10 (Krizhevsky, 2009); {_CIFAR_SPLITS}",
        licence=_CIFAR_LICENCE,
        downloads=True,
    ),
    DatasetFacts(
        name="cifar100",
        title="CIFAR-100",
        num_classes=100,
        channels=3,
        image_size=32,
        train_images=45_000,
        validation_images=5_000,
        test_images=10_000,
        digest="d95a27fc365e854e3f1982bdf3f0fe74fb5075ebfb503e9a4dcecb2c34dc9f55",
        class_names=_CIFAR100_CLASSES,
        source=f"CIFAR-100 (Krizhevsky, 2009), fine labels; {_CIFAR_SPLITS}",
        licence=_CIFAR_LICENCE,
        downloads=True,
    ),
    DatasetFacts(
        name="digits",
        title="Digits (8 × 8)",
        num_classes=10,
        channels=1,
        image_size=16,
        train_images=1_197,
        validation_images=200,
        test_images=400,
        digest="1849d32b872d9187925265a768b0bab6131e751a69ce59a6089544e008c82c33",
        class_names=tuple("0123456789"),
        source=(
            "scikit-learn's load_digits: the 1,797 test images of Optical Recognition of Handwritten Digits (Alpaydin "
            "and Kaynak, 1998, doi:10.24432/C50P49), 8 x 8 pixels of 17 grey levels, each pixel repeated to 2 x 2 and "
            "stretched to 0 to 255; class-balanced test and validation images are split off with a fixed seed"
        ),
        licence="CC BY 4.0, Alpaydin and Kaynak; comes with scikit-learn",
    ),
)
"""Data sets that are read into memory whole."""

FOLDER_SETS = (
    FolderSet(
        name="imagenet",
        title="ImageNet-1k",
        image_size=224,
        layout=list_train_val,
        test_layout=list_val,
        # 1,281,167 training images, less those of the validation split.
        expected=Expected(num_classes=1_000, train_images=1_271_167, validation_images=10_000, test_images=50_000),
        source=(
            "ILSVRC 2012 as folders train/<class>/ and val/<class>/; 10,000 class-balanced validation images are "
            "split off the training set with a fixed seed, the official validation set is the test split"
        ),
        licence=_IMAGENET_LICENCE,
        how_to_get=(
            "the folder that holds train/<class>/*.JPEG and val/<class>/*.JPEG. It cannot be downloaded for you; "
            "access is asked for at https://image-net.org/download"
        ),
    ),
    FolderSet(
        name="tiny_imagenet",
        title="Tiny ImageNet",
        image_size=64,
        layout=list_tiny_imagenet,
        test_layout=list_tiny_imagenet_test,
        # 500 training images per class, less 50 for the validation split.
        expected=Expected(num_classes=200, train_images=90_000, validation_images=10_000, test_images=10_000),
        source=(
            "Tiny ImageNet (Stanford CS231n), tiny-imagenet-200.zip unpacked; 10,000 class-balanced validation images "
            "are split off its training set with a fixed seed, its validation set is the test split"
        ),
        licence=_IMAGENET_LICENCE,
        how_to_get=(
            "the folder tiny-imagenet-200 of its unpacked archive, with wnids.txt, train and val. It cannot be "
            "downloaded for you; get http://cs231n.stanford.edu/tiny-imagenet-200.zip"
        ),
        # Its images have 64 pixels, so that an evaluation at that size cuts nothing off.
        resize_ratio=1.0,
    ),
    FolderSet(
        name="image_folder",
        title="Image folder",
        image_size=224,
        layout=list_image_folder,
        test_layout=list_held_out,
        source=(
            "The user's folders train/<class>/, test/<class>/ and val/<class>/; without test, val is the test split, "
            "and the validation split, where there is no folder for it, is a class-balanced tenth of the training "
            "images, split off with a fixed seed. Pictures of more than 8 bits are scaled, transparency is laid on "
            "white, the camera's orientation is applied, and the first of several frames is taken"
        ),
        licence="the user's own",
        how_to_get="the folder that holds train/<class>/, test/<class>/ and, if there is one, val/<class>/",
    ),
)
"""Data sets whose images stay in files."""
