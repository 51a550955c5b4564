"""How does a conversion run TensorFlow in a child process, and what do parent and child exchange?

A process because models are loaded there, because TensorFlow's converter leaks some 20 MB a call, and because the
process that calls `convert_model` should not have to import TensorFlow. It has a time and a memory limit, and what it
prints is not shown.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge_runtime import errors
from edge_runtime.contract.fields import Factor, InputSpec, Intensity, IntensityRule
from edge_runtime.contract.json_text import read_rule
from edge_runtime.errors import EdgeSegError, ModelError
from edge_runtime.system.process import (
    end_group,
    end_with_parent,
    find_last_line,
    inherited_environment,
    module_command,
    wait_within_limits,
)

from .work_folder import check_free

TIME_LIMIT_S = 1800.0
MEMORY_LIMIT_BYTES = min(12 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4)


@dataclass(frozen=True)
class ConversionRequest:
    """What the child is asked to do; None is "not given", so that the model decides."""

    model: str
    input_size: tuple[int, ...] | None  # (H, W) or (D, H, W)
    trust: str  # a module with custom layers; "" for none
    activation: str | None
    scale: Factor | None
    offset: Factor | None
    intensity: IntensityRule | None
    scale_from: str  # "masks" where these three are not the user's; else ""
    mask: str | None  # the name of the output that is the mask
    classes: str | bool | None  # the name of the output that classifies the image; False: none
    labelled: bool  # the user named the labels
    images: tuple[str, ...]  # to save the model's outputs for
    trial: bool  # save those for the usual scalings of the input too: see answers.TRIALS
    signature: str | None = None  # of a SavedModel


@dataclass(frozen=True)
class ClassOutput:
    """The output that classifies the whole image."""

    shape: tuple[int, int]  # (1, N)
    activation: str
    name: str


@dataclass(frozen=True)
class SourceFacts:
    """What the child found out about the model."""

    name: str
    kind: str  # "keras" | "h5" | "saved_model"
    input_shape: tuple[int, ...]  # (1, H, W, C) or (1, D, H, W, C)
    input_dtype: str
    output_shape: tuple[int, ...]  # of the mask
    activation: str
    classes: ClassOutput | None
    scale: Factor  # the model's input is pixel * scale + offset
    offset: Factor
    intensity: IntensityRule  # how the stored values of an image become pixels
    scale_from: str  # one of the contract's SCALE_SOURCES
    scale_why: str
    scale_conflict: str  # what contradicts it; "" for nothing
    weights: int  # how many numbers the model has
    kernels: int  # those in matrices and filters that its outputs depend on
    layers: tuple[str, ...]  # names of its Keras layers
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    isolation: str = ""  # what the child could not do: see sandbox.py
    reference: str = ""  # what its outputs were computed by: "tf-keras 2.21.0", "Keras 3.15.1", "TensorFlow 2.21.0"

    @property
    def input(self) -> InputSpec:
        """The model's input as a contract states it, without what only the user knows."""
        shape, colour = self.input_shape, "grey" if self.input_shape[-1] == 1 else "rgb"
        intensity = Intensity(images=self.intensity)
        scaling = self.scale, self.offset, intensity, self.scale_from
        return InputSpec(shape, self.input_dtype, colour, "stretch-area", *scaling)


Message = TypeVar("Message", ConversionRequest, SourceFacts)


def to_json(message: ConversionRequest | SourceFacts) -> str:
    """Return a message as JSON."""
    return json.dumps(asdict(message))


def from_data(kind: type[Message], data: Mapping[str, Any]) -> Message:
    """Return the message in the data of a JSON text. Raises: TypeError for a missing or an unknown key."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    fields["intensity"] = read_rule(fields.get("intensity"))
    if kind is SourceFacts and isinstance(classes := fields.get("classes"), Mapping):
        fields["classes"] = ClassOutput(**{**classes, "shape": tuple(classes["shape"])})
    return kind(**fields)


def run_source_process(work: Path, request: ConversionRequest) -> SourceFacts:
    """Run process_main on a request in `work`; return what it found, or raise the error it met.

    Raises:
        EdgeSegError: what the child raised; ModelError if it crashed or exceeded a limit.
    """
    (work / "request.json").write_text(to_json(request))
    exceeded = run_child("convert.source.process_main", work, work / "noise.txt")
    facts = None if exceeded else read_result(work)
    if facts is not None:
        return facts
    check_free(work)
    raise ModelError(request.model, f"the converter failed ({find_end(exceeded, work / 'noise.txt')})")


def run_child(module: str, work: Path, noise: Path) -> str:
    """Run a module on a folder, within the limits; return "" or how it ended: a limit that it exceeded, a signal."""
    with noise.open("wb") as file:
        child = subprocess.Popen(
            module_command("convert.source.sandbox.child_main", module, work),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=inherited_environment(),
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the whole group
            preexec_fn=end_with_parent(),  # without its parent, it would go on using gigabytes for nothing
        )
        try:
            exceeded = wait_within_limits(child, TIME_LIMIT_S, MEMORY_LIMIT_BYTES)
        finally:
            end_group(child)
    if child.returncode == -signal.SIGALRM:
        return exceeded or "reading it took too long: it is damaged"
    return exceeded or (f"it ended with signal {-child.returncode}" if (child.returncode or 0) < 0 else "")


def find_end(ended: str, noise: Path) -> str:
    """Return how a child ended, in words: a limit, a signal, or the last line that it wrote."""
    return ended or find_last_line(noise.read_text(errors="replace")) or "it wrote nothing"


def read_result(work: Path) -> SourceFacts | None:
    """Return what the child found; None where it ended before it could write that.

    Raises:
        EdgeSegError: the error that it wrote instead.
    """
    try:
        data = json.loads((work / "result.json").read_text())
    except (OSError, ValueError):
        return None
    if "error" in data:
        error = data["error"]
        raised: EdgeSegError = getattr(errors, error["kind"], ModelError)(error["what"], error["why"], error["fix"])
        raise raised
    return from_data(SourceFacts, data)
