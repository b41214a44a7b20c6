"""This module defines the report of a loaded file: which tensor went where, and what was taken and left out."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoadedTensor:
    """A tensor of a file and its place in the network, with the shapes and dtypes on both sides."""

    source: str
    target: str
    source_shape: Shape
    shape: Shape
    source_dtype: str
    dtype: str

    @property
    def is_unchanged(self) -> bool:
        """True if name, shape and dtype are the same in file and network."""
        return (self.source, self.source_shape, self.source_dtype) == (self.target, self.shape, self.dtype)

    def __str__(self) -> str:
        text = f"{self.target} {self.shape}"
        if self.source != self.target or self.source_shape != self.shape:
            text += f" from {self.source} {self.source_shape}"
        if self.source_dtype != self.dtype:
            text += f", {self.source_dtype} to {self.dtype}"
        return text


@dataclass(frozen=True)
class LoadReport:
    """The record of a file that was loaded into a network.

    `sha256` is that of the whole file. `layout` is the name of the layout and `title` its description. `wrapper` is the
    dictionary that held the weights ("" for none), `other_wrappers` those left alone; `prefix` was removed from all
    keys. `tensors` are in the order of the network. `temperatures` are those of the layers that read one, each once and
    ascending, after loading; `temperature_given` says that they were an argument and not in the file. `adapted` says
    what of the network was rebuilt to the sizes in the file. `kept` are keys of the network that the file lacks and may
    lack, `ignored` keys of the file that are no weights.
    """

    path: str
    sha256: str
    layout: str
    title: str
    tensors: tuple[LoadedTensor, ...]
    wrapper: str = ""
    other_wrappers: tuple[str, ...] = ()
    prefix: str = ""
    temperatures: tuple[float, ...] = ()
    temperature_given: bool = False
    adapted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def temperature(self) -> float | None:
        """The temperature of all layers that read one; None if none does, or if they differ."""
        return self.temperatures[0] if len(self.temperatures) == 1 else None

    def __str__(self) -> str:
        lines = [
            f"Loaded {len(self.tensors)} tensors from {self.path} (SHA-256 {self.sha256}).",
            f"Layout {self.layout}: {self.title}.",
        ]
        if self.wrapper:
            others = ""
            if self.other_wrappers:
                others = f" (not {', '.join(map(repr, self.other_wrappers))}, which the file holds too)"
            lines.append(f"The weights are those under {self.wrapper!r}{others}.")
        if self.prefix:
            lines.append(f"Prefix {self.prefix!r} was removed from all keys.")
        if self.temperatures:
            origin = "given" if self.temperature_given else "from the file"
            lines.append(f"Temperature {', '.join(f'{value:g}' for value in self.temperatures)}, {origin}.")
        lines += [f"Adapted: {text}." for text in self.adapted]
        if self.kept:
            lines.append(f"Not in the file, left as in the network: {', '.join(self.kept)}.")
        if self.ignored:
            lines.append(f"Ignored: {', '.join(self.ignored)}.")
        changed = [tensor for tensor in self.tensors if not tensor.is_unchanged]
        lines.append(f"{len(self.tensors) - len(changed)} tensors have the same name, shape and type in both.")
        if changed:
            lines += ["The others:", *[f"  {tensor}" for tensor in changed]]
        return "\n".join(lines)
