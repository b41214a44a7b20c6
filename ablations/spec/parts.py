"""This module defines the frozen, validated parts of a spec: network, data, training and intervention.

A spec holds everything that can change a result and nothing else. A setting that the rest of the spec makes meaningless
is `None` (a static network has no `num_kernels`). `ablations.spec.settings` has the rules for that and fills specs from
sparse layers of settings. Studies are defined in `ablations.study`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import available_datasets, facts_of
from ablations.errors import UnknownNameError
from ablations.spec.layers import LAYERS, kinds_by_option, option_of
from ablations.spec.names import AGGREGATIONS, NETWORKS, ROLES

SPEC_VERSION = 5
"""Part of every fingerprint: raised when the meaning of a setting or the result of a computation changes.

2: dense convolutions of dynamic layers are products of patches with kernels mixed a few images at a time.
3: blocks of those kernels are mixed and summed up in the cache; others are folded a few images at a time.
4: a batch may be passed through the network in parts; `train.micro_batch` and `train.on_out_of_memory`; depthwise
convolutions and the mixing of kernels by compiled code, gradients of kernels with few outputs summed the other way."""


class Frozen(BaseModel):
    """Base of all specs: immutable, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)


def _known_network(name: str) -> str:
    # A name of timm's is checked when the network is built: only timm knows which there are.
    if name not in NETWORKS and not name.startswith("timm/"):
        raise ValueError(str(UnknownNameError("network", name, NETWORKS)))
    return name


def _known_layer(name: str) -> str:
    if name not in LAYERS:
        raise ValueError(str(UnknownNameError("layer", name, LAYERS)))
    return name


def _known_aggregation(name: str) -> str:
    if name not in AGGREGATIONS:
        raise ValueError(str(UnknownNameError("aggregation", name, AGGREGATIONS)))
    return name


def _known_dataset(name: str) -> str:
    if name not in available_datasets():
        raise ValueError(str(UnknownNameError("data set", name, available_datasets())))
    return name


def _known_role(role: str) -> str:
    if role not in ROLES:
        raise ValueError(str(UnknownNameError("role", role, ROLES)))
    return role


AggregationName = Annotated[str, AfterValidator(_known_aggregation)]
RoleName = Annotated[str, AfterValidator(_known_role)]
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000_000)]
PositiveFloat = Annotated[float, Field(gt=0)]
# Adding 0.0 turns -0.0, which is another JSON text and so another fingerprint, into 0.0.
NonNegativeFloat = Annotated[float, Field(ge=0), AfterValidator(lambda value: value + 0.0)]
Share = Annotated[NonNegativeFloat, Field(lt=1)]
Fraction = Annotated[NonNegativeFloat, Field(le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _split_seed(value: Any) -> Any:
    # One function for both forms: the errors of a union would name its members, which no user has written.
    is_seed = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
    if value is None or value == "trial" or is_seed:
        return value
    raise ValueError(f"must be a seed from 0 to {2**32 - 1}, or 'trial' for the seed of the trial; found {value!r:.60}")


SplitSeed = Annotated[
    int | Literal["trial"] | None,
    PlainValidator(_split_seed),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, {"const": "trial"}]}),
]

MAX_OPERATIONS = 16
"""Of RandAugment on one image; there are fourteen kinds."""


class Placement(Frozen):
    """A choice of convolutions. All given keys must hold; no key at all means every convolution.

    Attributes:
        role: What the convolution does in its block, one of `ablations.spec.names.ROLES`.
        resolution: Side of the convolution's own input, in px.
        name: Glob patterns of module names.
        depth: First and last position in the network, 0 the first convolution and 1 the last.
        any_of: At least one of these holds (YAML key `any`).
        all_of: All of these hold (YAML key `all`).
        exclude: This does not hold (YAML key `not`).
    """

    role: Annotated[tuple[RoleName, ...] | None, Field(strict=False)] = None
    resolution: Annotated[tuple[PositiveInt, ...] | None, Field(strict=False)] = None
    name: Annotated[tuple[str, ...] | None, Field(strict=False)] = None
    depth: Annotated[tuple[Fraction, Fraction] | None, Field(strict=False)] = None
    any_of: Annotated[tuple[Placement, ...] | None, Field(strict=False, alias="any")] = None
    all_of: Annotated[tuple[Placement, ...] | None, Field(strict=False, alias="all")] = None
    exclude: Annotated[Placement | None, Field(alias="not")] = None

    @field_validator("role", "resolution", "name")
    @classmethod
    def _in_one_order(cls, names: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        # The same convolutions must have the same fingerprint, however they were listed.
        if names is None:
            return None
        if not names:
            raise ValueError("names nothing. Leave it out or name at least one.")
        # Roles are in the order of the network, sizes from the highest to the lowest, glob patterns by the alphabet.
        are_roles = set(names) <= set(ROLES)
        return tuple(sorted(set(names), key=ROLES.index if are_roles else None, reverse=isinstance(names[0], int)))

    def as_mapping(self) -> dict[str, Any]:
        """Return the plain form that `dyconv.placement_from_dict` takes."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


BLOCKS = Placement(exclude=Placement(role=("stem", "head", "squeeze_excitation")))
"""Every convolution inside a block but those of its gate: what the paper's parameter counts suggest (PAPER.md)."""


class LayerOptions(Frozen):
    """The options of a layer kind by name (`model.options.<name>`). Which there are depends on the kind."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _exist(self) -> Self:
        kinds = kinds_by_option()
        for name, value in (self.__pydantic_extra__ or {}).items():
            if name not in kinds:
                raise ValueError(str(UnknownNameError("option of a layer", name, kinds)))
            try:
                check_option(name, value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return self


def check_option(name: str, value: Any) -> None:
    """Check the value of an option that at least one layer kind has.

    Raises:
        ValueError: If no kind that has this option takes the value; the message leaves out the name of the option.
    """
    refusals = []
    kinds = kinds_by_option()[name]
    for kind in kinds:
        option = option_of(kind, name)
        assert option is not None
        try:
            option.checked(value)
        except ValueError as error:
            refusals.append(error)
    # Kinds may share an option's name with other bounds; the kind itself is checked with the whole model.
    if len(refusals) == len(kinds):
        raise refusals[0]


class ModelSpec(Frozen):
    """The network: its backbone and its kind of convolution layer.

    Attributes:
        name: The backbone: a network of the project, or any of timm's as `timm/<name>`.
        width: Multiplier of the channels.
        depth: Multiplier of the number of blocks per stage.
        stem_stride: Stride of the first convolution.
        stem_kernel: Size of a ResNet's first convolution.
        stem_pool: Whether a ResNet's stem ends in a max pooling.
        dropout: Probability of dropout before the classifier.
        squeeze_excitation: Whether each block rescales its channels by squeeze-and-excitation.
        layer: Layer kind, one of `ablations.spec.layers.LAYERS`: `static`, `dynamic` (attention over kernels), …
        options: The options of the layer kind; None where it has none.
        num_kernels: Kernels per layer, K.
        reduction: Channels of the attention branch's input per channel of its hidden layer.
        normalization: How the branch's K outputs become weights: softmax(z/τ), sigmoid(z), sigmoid(z/τ), sigmoid(z)
            over its sum, or z over the sum of magnitudes (`signed`).
        aggregation: Strategy that turns attention weights into the weights used, in training and evaluation.
        where: The convolutions that are not static.
    """

    name: Annotated[str, AfterValidator(_known_network)] = "mobilenet_v2"
    width: PositiveFloat | None = 0.35
    depth: PositiveFloat | None = 0.5
    stem_stride: Literal[1, 2] | None = 2
    stem_kernel: Literal[3, 7] | None = 7
    stem_pool: bool | None = True
    dropout: Share | None = 0.0
    squeeze_excitation: bool | None = False
    layer: Annotated[str, AfterValidator(_known_layer)] = "dynamic"
    options: LayerOptions | None = None
    num_kernels: PositiveInt | None = 4
    reduction: PositiveInt | None = 4
    normalization: Literal["softmax", "sigmoid", "tempered_sigmoid", "normalized_sigmoid", "signed"] | None = "softmax"
    aggregation: AggregationName | None = "attention"
    where: Placement | None = BLOCKS

    @property
    def is_static(self) -> bool:
        """True if no convolution is of a dynamic kind."""
        return self.layer == "static"

    @model_serializer(mode="wrap")
    def _without_absent_options(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fingerprints of kinds without options are as before there were options.
        return without_absent(dump(self), "options")


def without_absent(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a dump without those of the named fields that are None."""
    for name in names:
        if values.get(name) is None:
            values.pop(name, None)
    return values


class DataSpec(Frozen):
    """The images: which, how many, and how they are varied in training.

    `None` images means all of the split. What cannot change a result is not part of the fingerprint: where the files
    lie (the digest of their content is), whether they may be downloaded, how many processes decode them.

    Attributes:
        name: The data set.
        root: The folder of its files.
        download: Whether a data set that is not there may be fetched from the network.
        workers: Processes that decode image files; 0 decodes in the training process.
        image_size: Side in px to which image files are cut; None becomes the data set's own.
        train_images, validation_images, test_images: The number of images of this split that are used; None is all.
        augmentation: Images in memory are shifted by up to `crop_padding` px (`crop`), mirrored at random too
            (`crop_flip`); any images are cut to a random part and aspect and mirrored (`resized_crop_flip`).
        crop_padding: Black pixels around an image before it is cut out of that at random.
        rand_augment: Operations of RandAugment that each image gets after that; 0 is none.
        rand_augment_magnitude: The strength of the operations of RandAugment, 0 to 30.
        mixup: Parameter α of mixup's Beta distribution, 0 for none. With `cutmix` too, each batch gets one of the
            two, drawn evenly.
        cutmix: Parameter α of CutMix's Beta distribution, 0 for none.
        split_seed: The seed that draws the validation images among those of training and validation, `trial` for the
            trial's own seed; None leaves the data set split as it comes, the same for every trial.
    """

    name: Annotated[str, AfterValidator(_known_dataset)] = "fashion_mnist_mini"
    root: str | None = None
    download: bool | None = False
    workers: Annotated[int, Field(ge=0, le=256)] | None = 0
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    train_images: PositiveInt | None = None
    validation_images: PositiveInt | None = None
    test_images: PositiveInt | None = None
    augmentation: Literal["none", "crop", "crop_flip", "resized_crop_flip"] = "crop_flip"
    crop_padding: Annotated[int, Field(ge=0, le=1000)] | None = 2
    rand_augment: Annotated[int, Field(ge=0, le=MAX_OPERATIONS)] = 0
    rand_augment_magnitude: Annotated[int, Field(ge=0, le=30)] | None = 9
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    split_seed: SplitSeed = None

    @property
    def facts(self) -> DatasetFacts:
        """The facts of the data set, from the user's files where `root` names them.

        Raises:
            DatasetError: The files are missing or not laid out as they must be.
        """
        return facts_of(self.name, self.root, self.image_size, download=bool(self.download))

    @model_serializer(mode="wrap")
    def _without_absent_seed(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fingerprints of trainings on the split of the data set are as before it could be drawn anew.
        return without_absent(dump(self), "split_seed")


class TemperatureSpec(Frozen):
    """The softmax temperature τ over the training: constant at `start`, or linear from `start` to `end`.

    Attributes:
        schedule: Whether τ stays at `start` (`constant`) or is annealed (`linear`).
        start: τ at the first step.
        end: τ after the annealing.
        epochs: The length of the annealing, in epochs.
    """

    schedule: Literal["constant", "linear"] = "constant"
    start: PositiveFloat = 30.0
    end: PositiveFloat | None = 1.0
    epochs: PositiveFloat | None = 10.0


class TrainSpec(Frozen):
    """The optimisation. Learning rate and τ change per step; epochs count passes over the training images.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images of a step.
        micro_batch: Images that pass through the network at once, a divisor of `batch_size`; their gradients are
            added up before each step. Batch normalisation sees each of these parts by itself. `None` is whole batches.
        on_out_of_memory: Whether a training that runs out of memory fails, or goes on with half as many images at
            once, which is then part of its result.
        optimizer: Stochastic gradient descent with momentum, or AdamW.
        learning_rate: The highest learning rate, after the warm-up.
        momentum: Momentum of `sgd`.
        nesterov: Whether the momentum of `sgd` is Nesterov's.
        weight_decay: Weight decay; biases and normalisation layers have none.
        schedule: The course of the learning rate: down to zero along a cosine, in steps, or constant.
        step_epochs: Epochs between two steps of the schedule `step`.
        step_factor: What the learning rate is multiplied with at each of these steps.
        warmup_epochs: Epochs in which the learning rate rises from zero, in a line.
        label_smoothing: The share of a label that is spread evenly over all classes.
        precision: Arithmetic of the training: `float32`, or automatic mixed precision (`amp`).
        devices: Processes that share each batch.
        weights_seed: The seed of the initial weights; None is the trial's.
        order_seed: The seed of all that is drawn during the training: order, augmentation, mixing, dropout and random
            aggregation; None is the trial's.
    """

    epochs: PositiveInt = 10
    batch_size: Annotated[PositiveInt, Field(ge=2)] = 64
    micro_batch: Annotated[PositiveInt, Field(ge=2)] | None = None
    on_out_of_memory: Literal["fail", "halve_micro_batch"] = "fail"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: PositiveFloat = 0.05
    momentum: Share | None = 0.9
    nesterov: bool | None = True
    weight_decay: NonNegativeFloat = 4e-5
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    step_epochs: PositiveInt | None = 30
    step_factor: PositiveFloat | None = 0.1
    warmup_epochs: NonNegativeFloat = 0.0
    label_smoothing: Share = 0.0
    precision: Literal["float32", "amp"] = "float32"
    devices: PositiveInt = 1
    temperature: TemperatureSpec | None = TemperatureSpec()
    weights_seed: Seed | None = None
    order_seed: Seed | None = None

    @model_serializer(mode="wrap")
    def _without_absent_seeds(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fingerprints of trainings whose randomness all comes from the trial's seed are as before it could be fixed.
        return without_absent(dump(self), "weights_seed", "order_seed")


class Intervention(Frozen):
    """An evaluation-only change of a trained network (PAPER.md, "Kernel aggregation").

    Attributes:
        aggregation: How kernels are aggregated instead, or `None` to leave that.
        attention: The attention whose aggregation changes, in layers with several, or `None` for all of them.
        where: The dynamic layers concerned, or `None` for all of them.
        temperature: Another τ, or `None` to leave it.
        precision: The arithmetic in which the network is deployed and measured instead of float32, or `None`: a change
            of a static network too, and by itself.
        seed: Seed of the strategies that draw at random.
    """

    aggregation: AggregationName | None = None
    attention: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    where: Placement | None = None
    temperature: PositiveFloat | None = None
    precision: Literal["bfloat16", "int8"] | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _lowers_precision_alone(self) -> Self:
        # Deployed weights are constant, and strategies may draw; a placement would be read by nothing.
        if self.precision is not None and (self.aggregation, self.temperature, self.where) != (None, None, None):
            raise ValueError("precision deploys the network as it was trained. Leave the other changes out.")
        return self

    @model_validator(mode="after")
    def _changes_an_attention(self) -> Self:
        # A temperature changes all attentions of a layer, so `attention` alone would be read by nothing.
        if self.attention is not None and self.aggregation is None:
            raise ValueError("attention says whose aggregation changes, and there is no aggregation. Give one.")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_changes(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fingerprints of other interventions are as before layers had several attentions, and networks were deployed.
        return without_absent(dump(self), "attention", "precision")
