"""What do series.csv and links.csv say? A row for every series that was found, taken or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from edge_runtime.contract.fields import Contract
from edge_runtime.hospital.outputs.request import SeriesAnswer
from edge_runtime.hospital.plan.plan_series import PlannedSeries, name_series
from edge_runtime.hospital.series.geometry import measure_steps
from edge_runtime.hospital.series.verdict import Judged
from edge_runtime.system.spreadsheet import escape_formula

from .volume import find_extents, measure_ml

COLUMNS = (
    "series", "kind", "verdict", "reason", "plane", "rows", "columns", "slices", "missing", "duplicates", "uneven",
    "pixel_mm", "step_mm", "thickness_mm", "sequence", "contrast", "lesion_slices", "volume_ml", "volume_low_ml",
    "volume_high_ml", "objects", "largest_mm", "flags", "seg", "sc", "nifti", "error",
)  # fmt: skip
LINK_COLUMNS = ("series", "path", "patient_id", "study_uid", "series_uid", "instance_uid")
UNPROVEN, UNSURE, UNWANTED, INCOMPLETE = "unproven-series", "sequence?", "unwanted", "incomplete"
FOREIGN = {"foreign", "inverted"}
VOLUMES = {"volume_ml": "lesion_pixels", "volume_low_ml": "low_pixels", "volume_high_ml": "high_pixels"}

Row = dict[str, str]
SliceRows = Mapping[str, Mapping[str, str]]  # by file: the rows of slices that were segmented


def describe_found(judged: Judged) -> Row:
    """Return the row of a series that was found and not taken."""
    series, header, frame = judged.series, judged.series.first.header, judged.series.first.frame
    thicknesses = [item.frame.thickness for item in series.slices if item.frame.thickness is not None]
    is_image = header.form != "other"
    return dict.fromkeys(COLUMNS, "") | {
        "series": name_series(judged),
        "kind": header.form,
        "verdict": judged.verdict.verdict,
        "reason": judged.verdict.reason,
        "plane": judged.plane,
        "rows": str(header.rows) if is_image else "",
        "columns": str(header.columns) if is_image else "",
        "slices": str(len(series.slices)) if is_image else "0",
        "missing": str(series.steps.missing),
        "duplicates": str(series.duplicates),
        "uneven": str(series.steps.uneven),
        "pixel_mm": " ".join(f"{side:.4g}" for side in frame.spacing) if frame.spacing else "",
        "step_mm": f"{series.steps.step_mm:.4g}" if series.steps.step_mm is not None else "",
        "thickness_mm": f"{median(thicknesses):.4g}" if thicknesses else "",
        "sequence": judged.sequence,
        "contrast": judged.contrast,
        "flags": ";".join(judged.flags),
    }


def describe_taken(planned: PlannedSeries, answer: SeriesAnswer, made: SliceRows, contract: Contract) -> Row:
    """Return the row of a series that was segmented."""
    judged, row = planned.judged, describe_found(planned.judged)
    rows = [made[item.file] for item in planned.slices if item.file in made]
    lost = len(planned.slices) - len(rows)
    flags = list(judged.flags)
    flags += [UNSURE] * (judged.verdict.verdict == "unsure") + [UNWANTED] * (judged.verdict.verdict == "no")
    flags += [INCOMPLETE] * (lost > 0)
    foreign = is_foreign(rows)
    if foreign:
        row["verdict"], row["reason"] = "no", "foreign"
    volumes = {} if lost or foreign or judged.series.conflicts else measure_volumes(planned, rows)
    if volumes and not (contract.quality or {}).get("series"):
        flags.append(UNPROVEN)
    errors = [f"{lost} of {len(planned.slices)} slices could not be segmented"] if lost else []
    errors += [f"{kind}: {why}" for kind, why in answer.errors]
    files = {kind: [name for name in answer.files if is_kind(name, kind)] for kind in ("seg", "sc", "nifti")}
    return row | {
        "plane": planned.plane,
        "slices": str(len(planned.slices)),
        "lesion_slices": str(answer.lesion_slices),
        "objects": str(answer.objects),
        "largest_mm": "" if answer.largest_mm is None else f"{answer.largest_mm:.1f}",
        **{name: f"{value:.3f}" for name, value in volumes.items()},
        "flags": ";".join(flags),
        "seg": files["seg"][0] if files["seg"] else "",
        "sc": str(len(files["sc"])) if files["sc"] else "",
        "nifti": files["nifti"][0] if files["nifti"] else "",
        "error": "; ".join(errors),
    }


def is_kind(name: str, kind: str) -> bool:
    """Tell whether a file of OUT is of a kind."""
    return name.startswith("nifti/") if kind == "nifti" else name.rpartition("/")[2].startswith(kind)


def is_foreign(rows: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether more than half of the slices that hold anything are no images such as the model was made for."""
    flags = [set(row["flags"].split(";")) for row in rows]
    held = [found for found in flags if "blank" not in found]
    return 2 * sum(bool(found & FOREIGN) for found in held) > len(held)


def measure_volumes(planned: PlannedSeries, rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Return the volume in mL, and those with the threshold's margin; {} where areas or positions are not known."""
    sources = [item.source for item in planned.slices]
    depths = [source.position_mm for source in sources if source.position_mm is not None]
    areas = [source.pixel_mm2 for source in sources if source.pixel_mm2 is not None]
    extents = find_extents(depths, measure_steps(depths).step_mm) if len(depths) == len(sources) else []
    if not extents or len(areas) != len(sources):
        return {}
    volumes = {}
    for name, column in VOLUMES.items():
        counts = [row.get(column, "") for row in rows]
        if all(counts):
            lesions = [area * int(count) for area, count in zip(areas, counts, strict=True)]
            volumes[name] = measure_ml(lesions, extents)
    return volumes


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> bytes:
    """Return a CSV file, none of whose cells is a formula; names that are not UTF-8 are written as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    writer.writerows([escape_formula(row.get(name, "")) for name in columns] for row in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")
