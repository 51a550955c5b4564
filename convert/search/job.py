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
from convert.verify.input_trial import judge_input
from edge_runtime.contract.fields import UNSTAMPED, Contract
from edge_runtime.contract.findings import INPUT_SCALE
from edge_runtime.errors import AuditError
from edge_runtime.system.files import hash_tree
from edge_runtime.system.versions import find_version

from .kept_choice import LayoutChoice
from .options import ConversionOptions

ASSUMED = (
    "nothing in the model says which values its input takes, so 0…1 is assumed; settle it by scale and offset in the "
    "--contract file, or by --check IMAGES --masks DIR"
)


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
    work, facts = find_facts(work, options, settings, images)
    refuse_conflict(options, facts)
    if facts.scale_from == "assumed":
        options.notify(f"{INPUT_SCALE}: {ASSUMED}")
    own = {name: find_version(name) or "unknown" for name in ("edge-seg", "ai-edge-litert")}
    facts = replace(facts, versions={**facts.versions, **own})
    tidied = tidy_file(work / "fp32.tflite", work / "graph.tflite")
    contract = build_contract(facts, settings, options.model, hash_tree(options.model))
    whole = options.target == "tflite-runtime"
    quantizer = FullIntegerQuantizer(calibration, contract.input, options.int8_io, whole) if calibration else None
    drawn = read_drawn_outputs(work)
    return Job(options, work, facts, tidied, contract, drawn, options.allow, choice, quantizer)


def find_facts(
    work: Path, options: ConversionOptions, settings: Settings, images: CheckImages | None
) -> tuple[Path, SourceFacts]:
    """Load the model in a child process; return the folder of what it left there, and the model's facts.

    Where true masks show clearly that the model takes other values than were assumed, it is loaded again with these;
    where they contradict the graph or the user, the facts say so.
    """
    request = make_request(options, settings, images)
    facts = load_source(work, request)
    if images is None or not request.trial or facts.input_dtype != "float32":
        return work, facts
    verdict = judge_input(images, work, build_contract(facts, settings, options.model, UNSTAMPED))
    if verdict is None:
        return work, facts
    if not verdict.other:
        why = f"shown by masks: {verdict.best.name} ({verdict})"
        assumed = facts.scale_from == "assumed"
        return work, replace(facts, scale_from="masks", scale_why=why) if assumed else facts
    if facts.scale_from != "assumed":
        said = "the contract file" if facts.scale_from == "told" else "the graph"
        conflict = f"{said} says otherwise, but the masks show {verdict.best.name} ({verdict})"
        return work, replace(facts, scale_conflict=facts.scale_conflict or conflict)
    options.notify(f"input-scale: the masks show {verdict.best.name} ({verdict}); in the contract file: {verdict.toml}")
    again = work / "again"
    again.mkdir()
    best, why = verdict.best, f"shown by masks: {verdict.best.name} ({verdict}), {verdict.toml}"
    scaling = replace(request, scale=best.scale, offset=best.offset, intensity=best.intensity, scale_from="masks")
    return again, replace(load_source(again, replace(scaling, trial=False)), scale_why=why)


def load_source(work: Path, request: ConversionRequest) -> SourceFacts:
    """Load the model in a child process, and compare it with the Keras that wrote it where that is another one."""
    return ask_reference(work, request, run_source_process(work, request))


def refuse_conflict(options: ConversionOptions, facts: SourceFacts) -> None:
    """Raise AuditError where something contradicts the input's scale and that is not allowed."""
    if facts.scale_conflict and INPUT_SCALE not in options.allow:
        why = f"{INPUT_SCALE}: {facts.scale_conflict}"
        fix = f"correct the model or the --contract file, or --allow {INPUT_SCALE}"
        raise AuditError(str(options.model), why, fix)


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
        intensity=None if settings.intensity is None else settings.intensity.images,
        scale_from="",
        mask=settings.mask,
        classes=classes if isinstance(classes, (str, bool)) else None,
        labelled=settings.labels is not None,
        images=tuple(str(item.image) for item in images.images) if images is not None else (),
        trial=images is not None and images.masks,
        signature=options.signature,
    )
