"""What happens in a conversion, step by step, from the options to the written files?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert.quantize.calibration_images import CalibrationSet, find_calibration, refuse_overlap
from convert.report.contract_template import make_template
from convert.report.json_report import describe_useless, to_report
from convert.report.output_files import plan_outputs, write_outputs
from convert.report.table import to_table
from convert.report.worst_images import draw_worst_images
from convert.search.job import load_job
from convert.search.kept_choice import read_choice
from convert.search.options import ConversionOptions, check_options
from convert.search.tournament import RecipeSearch
from convert.source.load.archive import find_kind
from convert.source.load.live_model import open_model_file
from convert.source.process import ConversionRequest, run_source_process
from convert.source.work_folder import open_work_folder
from convert.stamp.contract_file import Settings, build_contract, find_settings, read_settings
from convert.stamp.flag_limits import choose_flag_limits
from convert.stamp.golden_vectors import make_golden
from convert.verify.audit import Audit
from convert.verify.check_images import CheckImages, find_check_images
from convert.verify.compare_on_images import ImageSetCheck, ReferenceImages
from convert.verify.drawn_images import DrawnImageCheck
from convert.verify.iou_policy import refuse_few
from convert.verify.quality import to_quality
from edge_runtime.contract.fields import Contract
from edge_runtime.contract.tail import read_contract, stamp_contract
from edge_runtime.system.files import hash_tree

__all__ = ["Conversion", "convert_model"]
KerasModel = Any  # keras.Model or tf_keras.Model: neither is imported here


@dataclass(frozen=True)
class Conversion:
    """A finished conversion: the file, its report beside it, what is in it and how close it is to the original."""

    path: Path  # of the .tflite file
    report_path: Path  # of the JSON report
    contract: Contract  # as it is stamped in the file
    audit: Audit  # what is in the file, with the findings
    checks: DrawnImageCheck  # how close it is to the original on drawn images
    report: dict[str, Any]  # what the JSON report holds
    table: str  # the report as `edge-convert` prints it
    check: ImageSetCheck | None = None  # on images, where some were given


def convert_model(
    path: str | Path | KerasModel,
    recipe: str = "drq",
    out: str | Path | None = None,
    *,
    input_size: tuple[int, ...] | None = None,
    contract: str | Path | None = None,
    upsample: str = "auto",
    target: str = "litert",
    keep_float: int | None = None,
    choices: str | Path | None = None,
    retune: bool = False,
    calibrate: str | Path | None = None,
    int8_io: str = "float32",
    check: str | Path | None = None,
    masks: str | Path | None = None,
    max_iou_drop: float | None = None,
    sure: bool = False,
    markdown: bool = False,
    trust_custom: str = "",
    allow: Collection[str] = (),
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
    signature: str | None = None,
) -> Conversion:
    """Convert a .keras, .h5 or SavedModel, or a live Keras model, to a .tflite file with its contract inside.

    A JSON report is written beside it. TensorFlow is loaded in a child process only.

    - path: of the model; or a model of Keras 3 or tf-keras that is in memory, which is saved to a temporary file first.
    - recipe: "drq", "int8", "fp16", "weight-only", "fp32" or "auto", the fastest that passes the checks.
    - out: default STEM.RECIPE.tflite beside the model; of a live model NAME.RECIPE.tflite in the working directory.
    - input_size: (H, W), or (D, H, W), of a model that leaves it open.
    - contract: a TOML file of contract fields; default STEM.contract.toml beside the model, if it is there.
    - upsample: how transposed convolutions are written; "auto" measures.
    - target: the runtime that has to load the file, "litert" or "tflite-runtime".
    - keep_float: convolutions of fewer filters x taps are not quantized; None measures which layers to leave float.
    - choices: the report of another conversion, whose layout is taken without measuring.
    - retune: measure again what an earlier conversion on this machine chose.
    - calibrate: a folder of 100 to 500 representative images, for "int8".
    - int8_io: type of input and output of an int8 file, "float32" or "int8".
    - check: a folder of images to compare the original, its static float32 file and the result on; the worst images
      are drawn into a folder beside the file.
    - masks: the folder of their true masks. The scores become the contract's quality, unless `contract` states one.
    - max_iou_drop: how much mean IoU the result may lose on these images.
    - sure: the whole 95 % interval of that loss has to be within max_iou_drop.
    - markdown: write the report as Markdown too.
    - trust_custom: a module with custom layers, which is imported: its code runs.
    - allow: findings of the audit to accept; they are written into the contract.
    - force: overwrite what is there.
    - say: called with messages on progress.
    - signature: of a SavedModel with several.

    Raises:
        EdgeSegError: its subclasses say what to do; AuditError where the file is refused, PolicyError where it loses
            too much. No file is left behind then.
    """
    with open_model_file(path) as model:
        live = not isinstance(path, (str, Path))
        out = f"{model.stem}.{recipe}.tflite" if out is None and live else out
        options = ConversionOptions(
            model, recipe, to_path(out), input_size, to_path(contract), upsample, target, keep_float,
            to_path(choices), retune, to_path(calibrate), int8_io, to_path(check), to_path(masks), max_iou_drop, sure,
            markdown, trust_custom, tuple(allow), force, say, signature,
        )  # fmt: skip
        return run_conversion(options)


def run_conversion(options: ConversionOptions) -> Conversion:
    """Convert the model of the options, write the file and its report. Raises: see `convert_model`."""
    say = options.notify
    check_options(options)
    find_kind(options.model)
    outputs = plan_outputs(options)
    images = find_images(options, outputs.pictures)
    calibration = find_calibration_set(options, images)
    settings = read_settings(options.contract) if options.contract is not None else find_settings(options.model)
    if settings.path:
        say(f"contract fields from {settings.path}")
    paths = [item.image for item in images.images] if images is not None else []
    paths += [item.path for item in calibration.images] if calibration is not None else []
    limits = choose_flag_limits(settings.triage, settings.path, paths)
    choice = read_choice(options.choices, options.recipe) if options.choices is not None else None
    with open_work_folder() as work:
        say(f"converting {options.model}")
        job = load_job(work, options, settings, images, calibration, choice)
        reference = ReferenceImages(images, job.work, job.contract) if images is not None else None
        result = RecipeSearch(job, reference).run()
        pictures = draw_worst_images(reference, result.check, result.candidate)
        stamped = result.candidate.contract
        stamped = replace(stamped, triage=limits if stamped.input.depth is None else None)
        measured = to_quality(result.check, options.check)
        stamped = replace(stamped, quality=stamped.quality or measured)
        candidate = replace(result.candidate, contract=stamped)
        golden = make_golden(candidate.flatbuffer, stamped, work, say)
    data = stamp_contract(candidate.flatbuffer, stamped, golden)
    result = replace(result, candidate=candidate)
    if settings.quality is not None and measured is not None:
        say(f"the contract's quality stays as {settings.path} states it; what --check measured is in the report")
    if result.check is not None and result.check.useless:
        say(describe_useless(result.check))
    report = to_report(job, result, hashlib.sha256(data).hexdigest(), outputs.pictures.name)
    write_outputs(outputs, data, report, pictures, options.force)
    audit, checks, table, whole = candidate.audit, candidate.checks, to_table(report), read_contract(outputs.model)
    return Conversion(outputs.model, outputs.report, whole, audit, checks, report, table, result.check)


def make_contract_template(
    path: str | Path | None,
    input_size: tuple[int, ...] | None = None,
    trust_custom: str = "",
    signature: str | None = None,
) -> str:
    """Return a contract file in TOML with what the model at `path` says filled in; without one, for any model.

    Raises: EdgeSegError where the model cannot be loaded.
    """
    if path is None:
        return make_template(None, None)
    model = Path(path)
    find_kind(model)
    request = ConversionRequest(
        str(model), input_size, trust_custom, None, None, None, None, "", None, None, False, (), False, signature
    )
    with open_work_folder() as work:
        facts = run_source_process(work, request)
    return make_template(facts, build_contract(facts, Settings(), model, hash_tree(model)))


def to_path(path: str | Path | None) -> Path | None:
    """Return a path; None for none."""
    return None if path is None else Path(path)


def find_images(options: ConversionOptions, pictures: Path) -> CheckImages | None:
    """Return the images of --check, if given. Raises: EdgeSegError if they cannot be used, or are too few."""
    if options.check is None:
        return None
    images = find_check_images(options.check, options.masks, pictures)
    options.notify(images.format_summary())
    refuse_few(str(options.model), len(images.images), options.max_iou_drop)
    return images


def find_calibration_set(options: ConversionOptions, images: CheckImages | None) -> CalibrationSet | None:
    """Return the images of --calibrate, if given. Raises: EdgeSegError if they cannot be used, or are checked on."""
    if options.calibrate is None:
        return None
    calibration = find_calibration(options.calibrate)
    if images is not None:
        refuse_overlap([item.image for item in images.images], calibration)
    return calibration
