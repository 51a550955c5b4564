"""What is known of a conversion once the model is loaded? It is the same for every recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from convert.flatbuffer.tidy import tidy_file
from convert.quantize.calibration_images import CalibrationSet
from convert.quantize.full_integer import FullIntegerQuantizer
from convert.source.answers import DrawnOutputs, read_drawn_outputs
from convert.source.process import ConversionRequest, SourceFacts, run_source_process
from convert.source.reference import ask_reference
from convert.stamp.contract_file import Settings, build_contract
from convert.verify.check_images import CheckImages
from edge_runtime.contract.fields import Contract
from edge_runtime.system.files import hash_tree
from edge_runtime.system.versions import find_version

from .kept_choice import LayoutChoice
from .options import ConversionOptions


@dataclass(frozen=True)
class Job:
    """A loaded model, its static float32 files, and what the user asked for."""

    options: ConversionOptions
    work: Path  # a folder with fp32.tflite, graph.tflite and Keras' outputs
    facts: SourceFacts
    tidied: Mapping[str, int]  # exact rewrites in graph.tflite
    contract: Contract  # of fp32.tflite
    drawn: DrawnOutputs = field(repr=False)
    allow: tuple[str, ...]  # findings
    choice: LayoutChoice | None  # of --choices
    quantizer: FullIntegerQuantizer | None  # where there are images to calibrate with

    @property
    def fp32_file(self) -> Path:
        """The static float32 file."""
        return self.work / "fp32.tflite"

    @property
    def graph(self) -> bytes:
        """The static float32 file with exact rewrites, from which every recipe's file is made."""
        return (self.work / "graph.tflite").read_bytes()


def load_job(
    work: Path, options: ConversionOptions, settings: Settings, images: CheckImages | None,
    calibration: CalibrationSet | None, choice: LayoutChoice | None,
) -> Job:  # fmt: skip
    """Load the model in a child process, which leaves static float32 files and Keras' outputs in `work`."""
    request = make_request(options, settings, images)
    facts = ask_reference(work, request, run_source_process(work, request))
    own = {name: find_version(name) or "unknown" for name in ("edge-seg", "ai-edge-litert")}
    facts = replace(facts, versions={**facts.versions, **own})
    tidied = tidy_file(work / "fp32.tflite", work / "graph.tflite")
    contract = build_contract(facts, settings, options.model, hash_tree(options.model))
    whole = options.target == "tflite-runtime"
    quantizer = FullIntegerQuantizer(calibration, contract.input, options.int8_io, whole) if calibration else None
    drawn = read_drawn_outputs(work)
    return Job(options, work, facts, tidied, contract, drawn, options.allow, choice, quantizer)


def make_request(options: ConversionOptions, settings: Settings, images: CheckImages | None) -> ConversionRequest:
    """Return what the child is asked to do."""
    classes = settings.classes.get("output") if isinstance(settings.classes, dict) else settings.classes
    return ConversionRequest(
        model=str(options.model),
        input_size=options.input_size,
        trust=options.trust_custom,
        activation=settings.activation,
        scale=settings.scale,
        offset=settings.offset,
        mask=settings.mask,
        classes=classes if isinstance(classes, (str, bool)) else None,
        labelled=settings.labels is not None,
        images=tuple(str(item.image) for item in images.images) if images is not None else (),
    )
