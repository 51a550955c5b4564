"""What does a contract file look like for a model, with what its graph says filled in?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convert.source.process import SourceFacts
from edge_runtime.contract.fields import Contract, Factor, Label

LABELS = '[{name = "lesion", colour = [255, 64, 64]}]'
HEAD = """\
# Contract fields of {name}. Take the # away from what you set; docs/contract.md has every field with an example.
"""
BODY = """\
{identity}
# How sure must a pixel be: above this probability it is lesion.
threshold = 0.5
# threshold = {{value = 0.4, from = "validation patients"}}

# Which values the model takes: pixel * scale + offset, pixel in 0...255.
# {scaling}
{scale}
# 0...1:      scale = 0.00392156862745098, offset = 0.0
# -1...1:     scale = 0.00784313725490196, offset = -1.0
# 0...255:    scale = 1.0, offset = 0.0
# ImageNet:   scale = [0.01712475, 0.01750700, 0.01742919], offset = [-2.117904, -2.035714, -1.804444]
# How stored values become pixels: "bit-depth", "slice-min-max", "z-score", {{percentiles = [1.0, 99.0]}} or
# {{window = [40.0, 400.0]}}; of image files, and of series (DICOM, NIfTI).
# intensity = {{images = "bit-depth", series = "slice-min-max"}}
# channels = {channels}
{activation}
# What the mask's values mean; of a softmax the first is the background. Colours may be left out.
{labels}
{classes}
# Which images the model was trained on, so that a series of another kind is not segmented.
# acquisition = {{modality = "MR", weighting = "T1", contrast = "yes", min_slices = 3}}
# What was measured, on how many images, of whom; series: false mL on series without a lesion.
# quality = {{n = 80, split = "validation patients", dice = 0.71, series = {{count = 3, false_ml_max = 0.5}}}}
# intended_use = "Research and evaluation only; not a medical device."
# Limits of the flags on a device, measured on the training images: a folder, from this file's own.
# triage = {{images = "training/images", masks = "training/masks"}}
"""


def make_template(facts: SourceFacts | None, contract: Contract | None) -> str:
    """Return a contract file in TOML: of a model from its facts and contract, of any model without them."""
    if facts is None or contract is None:
        return HEAD.format(name="a model") + BODY.format(
            identity='# id = "brain-2"\n# version = "3"',
            scaling="Without these lines the graph says, else 0...1 is assumed.",
            scale="# scale = 0.00392156862745098\n# offset = 0.0",
            channels='["T1"]',
            activation='# activation = "sigmoid"                  # of logits: it is appended to the graph',
            labels=f"# labels = {LABELS}",
            classes='# mask = "mask"                            # the output that is the mask, of several\n'
            '# classes = ["none", "glioma"]             # names for the output that classifies the image',
        )
    names = ["grey"] if contract.input.shape[-1] == 1 else ["red", "green", "blue"]
    return HEAD.format(name=quote(facts.name)) + BODY.format(
        identity=f"id = {quote(contract.model.id)}\n# version = {quote(contract.model.version)}",
        scaling="Found: " + (facts.scale_conflict or facts.scale_why).replace("\n", " ") + ".",
        scale=f"# scale = {to_toml(facts.scale)}\n# offset = {to_toml(facts.offset)}",
        channels=to_toml(names),
        activation=f"# activation = {quote(facts.activation)}               # as found",
        labels=f"labels = {to_toml(contract.output.labels)}",
        classes="" if contract.classes is None else f"classes = {to_toml(list(contract.classes.labels))}\n",
    )


def to_toml(value: Factor | Sequence[Any]) -> str:
    """Return a number, a text, a label or a list of these in TOML."""
    if isinstance(value, Label):
        return f"{{name = {quote(value.name)}, colour = {list(value.colour)}}}"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(to_toml, value))}]"
    return repr(value)


def quote(text: str) -> str:
    """Return a TOML string."""
    inner = "".join(char if char.isprintable() else "?" for char in text)
    return '"' + inner.replace("\\", "\\\\").replace('"', '\\"') + '"'
