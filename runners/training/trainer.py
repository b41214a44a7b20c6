"""This module holds the training loop, a function of the spec and the step alone: it can stop and resume anywhere.

All random draws (order, augmentation, dropout, mixup, shuffling strategies) are seeded by the spec's `order_seed` and
the step. No generator has a state that would have to be saved. Legend: B images in a batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dyconv
from ablations import vocabulary as names
from ablations.errors import TrainingError
from ablations.spec.trial import TrialSpec
from runners.data import BatchSource
from runners.data.mixing import mix
from runners.seeding import derive_seed, seeded
from runners.training.checkpoint import CheckpointStore, Log, Position, Training
from runners.training.distributed import World
from runners.training.evaluation import evaluate
from runners.training.network import temperature_schedule
from runners.training.optimizer import learning_rate, make_optimizer

_PROGRESS_SECONDS = 1.0
"""Seconds between two readings of the loss; each one writes a file, and on a GPU waits for the computation."""

_EPOCH_SECONDS = 30.0
"""Seconds after a checkpoint within which the end of an epoch gets none: writing takes as long as a step or two."""


@dataclass(frozen=True)
class Hooks:
    """The callbacks of a training.

    Attributes:
        on_epoch: Called with the epoch (from 1) and its metrics.
        on_progress: Called now and then with epoch, step in the epoch, loss and images per second.
    """

    on_epoch: Callable[[int, dict[str, float]], None]
    on_progress: Callable[[int, int, float, float], None] = lambda epoch, step, loss, speed: None


@dataclass
class _Sums:
    """Sums over the running epoch, kept on the device until they are read: each reading waits for a GPU."""

    device: torch.device
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor) -> None:
        value = value.detach().float()
        if name in self.values:
            value = self.values[name] + value
        self.values[name] = value

    def get(self, name: str) -> float:
        return float(self.values.get(name, math.nan))

    def as_floats(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.values.items()}

    @classmethod
    def restore(cls, device: torch.device, values: dict[str, float]) -> _Sums:
        return cls(device, {name: torch.tensor(value, device=device) for name, value in values.items()})


class Trainer:
    """One training, from its start or from its last checkpoint to its end.

    Args:
        spec: What to train.
        model: The network, on the device its batches are on.
        source: Its batches.
        checkpoints: Where to keep checkpoints.
        world: This process among those that train the network together.
        checkpoint_seconds: At most this much training is lost by a kill, and the step or measurement under way.
        micro_batch: Images that pass through the network at once, those of all processes together; `None` for what
            the spec says.
    """

    def __init__(
        self,
        spec: TrialSpec,
        model: nn.Module,
        source: BatchSource,
        checkpoints: CheckpointStore,
        *,
        world: World | None = None,
        checkpoint_seconds: float = 60.0,
        micro_batch: int | None = None,
    ) -> None:
        self.spec, self.model, self.source, self.checkpoints = spec, model, source, checkpoints
        self.world = world or World()
        self.parallel = self.world.parallel(model)
        # Collected once: a search at every step would take longer than the work on them.
        self._parameters = list(model.parameters())
        self._dynamic = nn.ModuleList(layer for _, layer in dyconv.dynamic_layers(model))
        self.device = self._parameters[0].device
        self.optimizer = make_optimizer(model, spec.train)
        self.schedule = temperature_schedule(spec.train.temperature)
        # Only float16 has so small a range that gradients need a scale.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._amp_dtype() is torch.float16)
        self.checkpoint_seconds = checkpoint_seconds
        # The size of this attempt comes first: an earlier one may have run out of memory with the spec's.
        self._micro_batches = spec.train.batch_size // (micro_batch or spec.train.micro_batch or spec.train.batch_size)
        self.position = Position(0, {})
        self._saved = time.monotonic()

    def resume(self, log: Log) -> int:
        """Go to the last checkpoint, if there is one; return the number of epochs before it.

        Args:
            log: Called with each checkpoint that cannot be used, and why.
        """
        self.position = self.checkpoints.load(self._training, log) or Position(0, {})
        if self.world.is_main:
            self.checkpoints.forget_beyond(self.position.step)
        return self.position.epoch_and_step(self.source.steps_per_epoch)[0]

    def run(self, hooks: Hooks) -> None:
        """Train to the end.

        Raises:
            TrainingError: If the loss is not a number.
        """
        steps = self.source.steps_per_epoch
        first_epoch, _ = self.position.epoch_and_step(steps)
        for epoch in range(first_epoch, self.spec.train.epochs):
            metrics = self._run_epoch(epoch, hooks)
            # Set explicitly, because a training that resumes here has had no pass yet; otherwise it is this number.
            dyconv.set_forward_step(self._dynamic, (epoch + 1) * steps * self._micro_batches)
            if self.world.is_main:
                hooks.on_epoch(epoch + 1, metrics | self._validate())
            self.world.wait()
            self.position = Position((epoch + 1) * steps, {})
            # After the last epoch the caller writes the weights, and no checkpoint is needed.
            if epoch + 1 < self.spec.train.epochs and self._is_due(_EPOCH_SECONDS):
                self._save()

    def rehearse(self) -> Iterator[float]:
        """Train steps of the first epoch and yield the seconds of each, its images included; nothing is saved."""
        sums, started = _Sums(self.device), time.monotonic()
        self.model.train()
        for step, (images, labels) in enumerate(self.source.training(0)):
            # `float` waits for a GPU to finish the step.
            float(self._step(0, step, images, labels, sums))
            finished = time.monotonic()
            yield finished - started
            started = time.monotonic()

    def _run_epoch(self, epoch: int, hooks: Hooks) -> dict[str, float]:
        """Train the steps of an epoch that are left; return its metrics."""
        steps = self.source.steps_per_epoch
        _, first = self.position.epoch_and_step(steps)
        sums, earlier_seconds = _Sums.restore(self.device, self.position.sums), self.position.seconds
        if self.position.sums and "right" not in self.position.sums:
            # A checkpoint of an earlier version, within this epoch: nobody knows how many were right before it.
            sums.add("right", torch.tensor(math.nan, device=self.device))
        started = last_progress = time.monotonic()
        self.model.train()
        for step, (images, labels) in enumerate(self.source.training(epoch, first), start=first):
            loss = self._step(epoch, step, images, labels, sums)
            moment, is_due = time.monotonic(), self._is_due(self.checkpoint_seconds)
            # The first step too, so that progress shows at once that training has begun.
            if step == first or is_due or moment - last_progress > _PROGRESS_SECONDS:
                value, last_progress = self._finite(loss, epoch, step), moment
                if self.world.is_main:
                    speed = (step - first + 1) * len(labels) / (moment - started)
                    hooks.on_progress(epoch, step, value, speed)
            if is_due:
                seconds = earlier_seconds + moment - started
                self.position = Position(epoch * steps + step + 1, sums.as_floats(), seconds)
                self._save()
        return self._epoch_metrics(epoch, sums, earlier_seconds + time.monotonic() - started)

    def _step(self, epoch: int, step: int, images: Tensor, labels: Tensor, sums: _Sums) -> Tensor:
        """Do one optimiser step on a batch; return its loss and add to the sums."""
        train, fractional_epoch = self.spec.train, epoch + step / self.source.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, fractional_epoch)
        if self.schedule is not None:
            dyconv.set_temperature(self._dynamic, self.schedule(fractional_epoch))
        global_step = epoch * self.source.steps_per_epoch + step
        for parameter in self._parameters:
            parameter.grad = None
        # Mixing and dropout draw from a generator seeded for this step, so that a resume repeats them.
        with self._seeded("step", global_step):
            images, targets = mix(images, labels, self.spec.data, self.source.facts.num_classes)
            loss = self._add_gradients(global_step, images, targets, sums)
        # Before the norm is taken: gradients are still multiplied by the scale of the loss.
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        sums.add("gradient_norm", nn.utils.get_total_norm(gradients))
        sums.add("loss", loss)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def _add_gradients(self, global_step: int, images: Tensor, targets: Tensor, sums: _Sums) -> Tensor:
        """Add up the gradients of a batch, one micro-batch at a time; return its mean loss, sum up what is right."""
        count, smoothing = self._micro_batches, self.spec.train.label_smoothing
        parts = zip(images.tensor_split(count), targets.tensor_split(count), strict=True)
        loss = images.new_zeros(())
        for index, (images_part, targets_part) in enumerate(parts):
            # Each pass has a number of its own, from which strategies that shuffle draw.
            dyconv.set_forward_step(self._dynamic, global_step * count + index)
            with self.world.summing(self.parallel, is_last=index + 1 == count):
                with self._autocast():
                    logits = self.parallel(self.world.part(images_part))
                    mean_loss = F.cross_entropy(logits, self.world.part(targets_part), label_smoothing=smoothing)
                    # The mean of the batch is the mean of the means of its parts, which are of one size.
                    part_loss = mean_loss / count
                torch.autograd.backward(self.scaler.scale(part_loss))
            loss = loss + part_loss.detach()
            if targets.ndim == 1:
                # A mixed image has no class that would be right.
                is_right = logits.detach().argmax(1) == self.world.part(targets_part)
                sums.add("right", is_right.float().mean() / count)
        return loss

    def _seeded(self, *purpose: str | int) -> AbstractContextManager[None]:
        return seeded(derive_seed(self.spec.order_seed, *purpose), self.device)

    def _amp_dtype(self) -> torch.dtype | None:
        """Return the dtype of mixed precision, float16 only on a GPU without bfloat16; None for float32."""
        if self.spec.train.precision == "float32":
            return None
        if self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            return torch.float16
        return torch.bfloat16

    def _autocast(self) -> torch.autocast:
        dtype = self._amp_dtype()
        return torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def _finite(self, loss: Tensor, epoch: int, step: int) -> float:
        """Return the loss as a number, or raise TrainingError if it is infinite or not a number."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at epoch {epoch + 1}, step {step + 1}. "
                "Lower train.learning_rate or lengthen train.warmup_epochs."
            )
        return value

    def _epoch_metrics(self, epoch: int, sums: _Sums, seconds: float) -> dict[str, float]:
        """Return the metrics of an epoch of training; rate and temperature are those of its last step."""
        total = self.source.steps_per_epoch
        loss = self._finite(torch.tensor(self.world.mean(sums.get("loss")) / total), epoch, total - 1)
        metrics = {
            names.TRAIN_LOSS: loss,
            names.TRAIN_GRADIENT_NORM: sums.get("gradient_norm") / total,
            names.TRAIN_LEARNING_RATE: learning_rate(self.spec.train, epoch + (total - 1) / total),
            names.TRAIN_IMAGES_PER_SECOND: total * self.spec.train.batch_size / max(seconds, 1e-9),
        }
        right = sums.get("right")
        if not math.isnan(right):
            metrics[names.TRAIN_TOP1] = 100 * self.world.mean(right) / total
        if self.schedule is not None:
            metrics[names.TEMPERATURE] = self.schedule(epoch + 1 - 1 / total)
        return metrics

    def _validate(self) -> dict[str, float]:
        """Return the metrics of the validation split, and the entropy of attention by layer."""
        is_dynamic = any(dyconv.dynamic_layers(self.model))
        with dyconv.record_attention(self.model) if is_dynamic else nullcontext() as attention:
            measurement = evaluate(
                self.model, self.source.evaluation("validation"), self.source.facts.num_classes, self._autocast()
            )
        metrics = measurement.metrics("val")
        if attention is not None:
            for layer, entropy in attention.entropy(normalized=True).items():
                metrics[names.entropy_metric(layer)] = entropy
        return metrics

    @property
    def _training(self) -> Training:
        return Training(self.model, self.optimizer, self.scaler)

    def _is_due(self, seconds: float) -> bool:
        """Return True if the last checkpoint is older than `seconds` or than checkpoints may be."""
        return time.monotonic() - self._saved > min(seconds, self.checkpoint_seconds)

    def _save(self) -> None:
        if self.world.is_main:
            self.checkpoints.save(self._training, self.position)
        self._saved = time.monotonic()
