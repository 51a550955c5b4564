"""What did the user ask of a conversion, and do these options fit together?"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from convert.flatbuffer.upsampling import UPSAMPLES
from convert.quantize.calibration_images import MAX_IMAGES, MIN_IMAGES
from convert.quantize.full_integer import IO
from convert.quantize.recipes import RECIPES
from convert.verify.iou_policy import check_policy_options
from edge_runtime.contract.findings import FINDINGS
from edge_runtime.errors import UsageError, near_miss

AUTO = "auto"
ORDER = ("int8", "drq", "weight-only", "fp16", "fp32")  # from fastest to most accurate, where times are about equal
TARGETS = ("litert", "tflite-runtime")


@dataclass(frozen=True)
class ConversionOptions:
    """The parameters of `convert_model`, which documents them."""

    model: Path
    recipe: str
    out: Path | None
    input_size: tuple[int, ...] | None
    contract: Path | None
    upsample: str
    target: str
    keep_float: int | None
    choices: Path | None
    retune: bool
    calibrate: Path | None
    int8_io: str
    check: Path | None
    masks: Path | None
    max_iou_drop: float | None
    sure: bool
    markdown: bool
    trust_custom: str
    allow: tuple[str, ...]
    force: bool
    notify: Callable[[str], None]  # takes a message on progress
    signature: str | None = None

    @property
    def recipes(self) -> list[str]:
        """The recipes to try, in the order of ORDER."""
        return list_recipes(self.recipe, self.calibrate is not None)


def list_recipes(name: str, calibrated: bool) -> list[str]:
    """Return the recipes that --recipe stands for; "auto" without calibration images has no int8."""
    return [one for one in ORDER if one != "int8" or calibrated] if name == AUTO else [name]


def check_options(options: ConversionOptions) -> None:
    """Raise UsageError, before any work, for an unknown value or for options that do not fit together."""
    check_value("recipe", options.recipe, [*RECIPES, AUTO])
    check_value("upsample", options.upsample, UPSAMPLES)
    check_value("target", options.target, TARGETS)
    for finding in options.allow:
        check_value("finding", finding, FINDINGS)
    check_value("int8-io", options.int8_io, IO)
    check_policy_options(options.max_iou_drop, options.check, options.masks, options.sure)
    if options.recipe == "int8" and options.calibrate is None:
        fix = f"--calibrate DIR with {MIN_IMAGES} to {MAX_IMAGES} representative images"
        raise UsageError("recipe int8", "it needs images to set its activations' ranges", fix)
    if options.recipe not in ("int8", AUTO):
        given = {"--calibrate": options.calibrate is not None, "--int8-io int8": options.int8_io != "float32"}
        for option in (option for option, is_given in given.items() if is_given):
            why = f"the recipe {options.recipe} has nothing to do with it"
            raise UsageError(option, why, "take --recipe int8 or auto")


def check_value(what: str, value: str, known: Collection[str]) -> None:
    """Raise UsageError, with the near miss, for a value that is not among the known ones."""
    if value not in known:
        raise UsageError(f"{what} {value!r}", f"it is not one of {', '.join(known)}", near_miss(value, known))
