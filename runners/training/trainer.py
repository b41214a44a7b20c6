"""The training loop: a function of the spec and the step alone, so that it can stop and go on anywhere.

Whatever draws at random (order, augmentation, dropout, mixup, shuffling strategies) is seeded by (seed, step); there
is no generator whose state would have to be saved. Legend: B images in a batch.
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
from runners.training.checkpoint import CheckpointStore, Position, Tell, Training
from runners.training.distributed import World
from runners.training.evaluation import evaluate
from runners.training.network import temperature_schedule
from runners.training.optimizer import learning_rate, make_optimizer

_LOOK_SECONDS = 1.0
"""Between two looks at the loss of an epoch; looking costs a file that is written, and on a GPU a synchronisation."""

_EPOCH_SECONDS = 30.0
"""An epoch that ends sooner after the last checkpoint gets none: writing one takes as long as a step or two."""


@dataclass(frozen=True)
class Hooks:
    """What a training tells the world.

    Attributes:
        on_epoch: Called with the epoch (from 1) and its metrics.
        on_progress: Called now and then with epoch, step in the epoch, loss and images per second.
    """

    on_epoch: Callable[[int, dict[str, float]], None]
    on_progress: Callable[[int, int, float, float], None] = lambda epoch, step, loss, speed: None


@dataclass
class _Sums:
    """Sums over the running epoch, kept on the device until someone looks."""

    device: torch.device
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor) -> None:
        value = value.detach().float()
        self.values[name] = self.values[name] + value if name in self.values else value

    def get(self, name: str) -> float:
        return float(self.values[name]) if name in self.values else math.nan

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
        # Found once: at every step, looking for them takes longer than what is then done with them.
        self._parameters = list(model.parameters())
        self._dynamic = nn.ModuleList(layer for _, layer in dyconv.dynamic_layers(model))
        self.device = self._parameters[0].device
        self.optimizer = make_optimizer(model, spec.train)
        self.schedule = temperature_schedule(spec.train.temperature)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._amp_dtype() is torch.float16)
        self.checkpoint_seconds = checkpoint_seconds
        self._parts = spec.train.batch_size // (micro_batch or spec.train.micro_batch or spec.train.batch_size)
        self.position = Position(0, {})
        self._saved = time.monotonic()

    def resume(self, tell: Tell) -> int:
        """Goes to the last checkpoint, if there is one; returns the number of epochs that are behind it.

        Args:
            tell: Called with each checkpoint that cannot be used, and why.
        """
        self.position = self.checkpoints.load(self._training, tell) or Position(0, {})
        if self.world.is_main:
            self.checkpoints.forget_beyond(self.position.step)
        return self.position.epoch_and_step(self.source.steps_per_epoch)[0]

    def run(self, hooks: Hooks) -> None:
        """Trains to the end.

        Raises:
            TrainingError: If the loss is not a number.
        """
        steps = self.source.steps_per_epoch
        first_epoch, _ = self.position.epoch_and_step(steps)
        for epoch in range(first_epoch, self.spec.train.epochs):
            metrics = self._run_epoch(epoch, hooks)
            # Set, although it is the next one anyway: a training that resumes here has had no pass yet.
            dyconv.set_forward_step(self._dynamic, (epoch + 1) * steps * self._parts)
            if self.world.is_main:
                hooks.on_epoch(epoch + 1, metrics | self._validate())
            self.world.wait()
            self.position = Position((epoch + 1) * steps, {})
            # After the last epoch the weights are written, which is all that is needed then.
            if epoch + 1 < self.spec.train.epochs and self._is_due(_EPOCH_SECONDS):
                self._save()

    def rehearse(self) -> Iterator[float]:
        """Trains steps of the first epoch, kept nowhere, and yields how many seconds each took, its images included."""
        sums, started = _Sums(self.device), time.monotonic()
        self.model.train()
        for step, (images, labels) in enumerate(self.source.training(0)):
            float(self._step(0, step, images, labels, sums))
            now = time.monotonic()
            yield now - started
            started = time.monotonic()

    def _run_epoch(self, epoch: int, hooks: Hooks) -> dict[str, float]:
        steps = self.source.steps_per_epoch
        _, first = self.position.epoch_and_step(steps)
        sums, before = _Sums.restore(self.device, self.position.sums), self.position.seconds
        started = looked = time.monotonic()
        self.model.train()
        for step, (images, labels) in enumerate(self.source.training(epoch, first), start=first):
            loss = self._step(epoch, step, images, labels, sums)
            now, is_due = time.monotonic(), self._is_due(self.checkpoint_seconds)
            if step == first or is_due or now - looked > _LOOK_SECONDS:
                value, looked = self._finite(loss, epoch, step), now
                if self.world.is_main:
                    hooks.on_progress(epoch, step, value, (step - first + 1) * len(labels) / (now - started))
            if is_due:
                self.position = Position(epoch * steps + step + 1, sums.as_floats(), before + now - started)
                self._save()
        return self._epoch_metrics(epoch, sums, before + time.monotonic() - started)

    def _step(self, epoch: int, step: int, images: Tensor, labels: Tensor, sums: _Sums) -> Tensor:
        train, at = self.spec.train, epoch + step / self.source.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, at)
        if self.schedule is not None:
            dyconv.set_temperature(self._dynamic, self.schedule(at))
        done = epoch * self.source.steps_per_epoch + step
        for parameter in self._parameters:
            parameter.grad = None
        with self._seeded("step", done):
            images, targets = mix(images, labels, self.spec.data, self.source.facts.num_classes)
            loss = self._add_gradients(done, images, targets)
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        sums.add("gradient_norm", nn.utils.get_total_norm(gradients))
        sums.add("loss", loss)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def _add_gradients(self, done: int, images: Tensor, targets: Tensor) -> Tensor:
        """Adds the gradients of a batch up, part by part; returns its mean loss."""
        parts, smoothing = self._parts, self.spec.train.label_smoothing
        loss = images.new_zeros(())
        for part, (some, wanted) in enumerate(
            zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True)
        ):
            # Each pass has a number of its own, from which strategies that shuffle draw.
            dyconv.set_forward_step(self._dynamic, done * parts + part)
            with self.world.summing(self.parallel, is_last=part + 1 == parts):
                with self._autocast():
                    logits = self.parallel(self.world.part(some))
                    part_loss = F.cross_entropy(logits, self.world.part(wanted), label_smoothing=smoothing) / parts
                torch.autograd.backward(self.scaler.scale(part_loss))
            loss = loss + part_loss.detach()
        return loss

    def _seeded(self, *purpose: str | int) -> AbstractContextManager[None]:
        return seeded(derive_seed(self.spec.seed, *purpose), self.device)

    def _amp_dtype(self) -> torch.dtype | None:
        if self.spec.train.precision == "float32":
            return None
        if self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            return torch.float16
        return torch.bfloat16

    def _autocast(self) -> torch.autocast:
        dtype = self._amp_dtype()
        return torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def _finite(self, loss: Tensor, epoch: int, step: int) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at epoch {epoch + 1}, step {step + 1}. "
                "Lower train.learning_rate or lengthen train.warmup_epochs."
            )
        return value

    def _epoch_metrics(self, epoch: int, sums: _Sums, seconds: float) -> dict[str, float]:
        total = self.source.steps_per_epoch
        loss = self._finite(torch.tensor(self.world.mean(sums.get("loss")) / total), epoch, total - 1)
        metrics = {
            names.TRAIN_LOSS: loss,
            names.TRAIN_GRADIENT_NORM: sums.get("gradient_norm") / total,
            names.TRAIN_LEARNING_RATE: learning_rate(self.spec.train, epoch + (total - 1) / total),
            names.TRAIN_IMAGES_PER_SECOND: total * self.spec.train.batch_size / max(seconds, 1e-9),
        }
        if self.schedule is not None:
            metrics[names.TEMPERATURE] = self.schedule(epoch + 1 - 1 / total)
        return metrics

    def _validate(self) -> dict[str, float]:
        watched = dyconv.record_attention(self.model) if any(dyconv.dynamic_layers(self.model)) else nullcontext()
        with watched as attention:
            measured = evaluate(
                self.model, self.source.evaluation("validation"), self.source.facts.num_classes, self._autocast()
            )
        entropies = attention.entropy(normalized=True) if attention is not None else {}
        return measured.metrics("val") | {names.entropy_metric(layer): value for layer, value in entropies.items()}

    @property
    def _training(self) -> Training:
        return Training(self.model, self.optimizer, self.scaler)

    def _is_due(self, seconds: float) -> bool:
        return time.monotonic() - self._saved > min(seconds, self.checkpoint_seconds)

    def _save(self) -> None:
        if self.world.is_main:
            self.checkpoints.save(self._training, self.position)
        self._saved = time.monotonic()
