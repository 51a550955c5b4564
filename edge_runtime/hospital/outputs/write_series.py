"""How does the parent have the files of all chosen series written, one series after the other?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.fields import Contract
from edge_runtime.errors import OutputError
from edge_runtime.hospital.headers.child import LineChild
from edge_runtime.hospital.plan.plan_series import PlannedSeries
from edge_runtime.hospital.plan.salt import make_private_folder
from edge_runtime.hospital.series.geometry import GAP, measure_steps
from edge_runtime.system.files import remove_inside

from .request import OutputSlice, SeriesAnswer, SeriesRequest, to_answer, to_fields

ANSWER_S = 600.0  # for one series
CHILD_BYTES = 2_000_000_000  # of memory
KINDS = ("png", "seg", "sc", "nifti")
DEFAULTS = {"nifti": ("png", "nifti")}  # by form; of all others:
DEFAULT = ("png", "seg")
APPLY = {"nifti": ("nifti",)}  # what can be written of a form; of all others:
APPLY_ALL = ("seg", "sc", "nifti")


@dataclass(frozen=True)
class Orders:
    """What is written of each series."""

    kinds: tuple[str, ...]  # of KINDS; () for what is usual for each form
    links: bool
    threshold: float
    version: str

    def list_kinds(self, form: str) -> tuple[str, ...]:
        """Return what is written of a series of this form beside pictures."""
        asked = self.kinds or DEFAULTS.get(form, DEFAULT)
        return tuple(kind for kind in asked if kind in APPLY.get(form, APPLY_ALL))


def write_series(
    planned: Sequence[PlannedSeries], made: Collection[str], out: Path, contract: Contract, orders: Orders
) -> Iterator[tuple[PlannedSeries, SeriesAnswer]]:
    """Yield each series with what was measured and written of it; what an earlier run wrote, and this not, is removed.

    made: the names of the slices that were segmented. Raises: OutputError.
    """
    with closing(LineChild("edge_runtime.hospital.outputs.child_main", {"memory": CHILD_BYTES}, ANSWER_S)) as child:
        for series in planned:
            request = make_request(series, made, out, contract, orders)
            if "seg" in request.kinds or "sc" in request.kinds:
                make_private_folder(out / "dicom")
            answer = ask(child, request) if request.slices else SeriesAnswer()
            discard_others(out, series.alias, answer.files)
            yield series, answer


def ask(child: LineChild, request: SeriesRequest) -> SeriesAnswer:
    """Return the child's answer; where the series kills it, an error for all that was asked for."""
    answers: list[Mapping[str, object]] = list(child.ask_lines(to_fields(request)))
    found = answers[0].get("answer") if answers else None
    if isinstance(found, Mapping):
        return to_answer(found)
    why = "the process that writes it died, or took too long"
    return SeriesAnswer(errors=tuple((kind, why) for kind in request.kinds or ("masks",)))


def make_request(
    series: PlannedSeries, made: Collection[str], out: Path, contract: Contract, orders: Orders
) -> SeriesRequest:
    """Return what the child is asked for: of a series whose slices failed in part, of the others."""
    depths = [item.source.position_mm for item in series.slices if item.source.position_mm is not None]
    step = measure_steps(depths).step_mm or 0.0
    slices, before = [], None
    for item in series.slices:
        depth, source = item.source.position_mm, item.source
        if item.file in made:
            joined = before is None or depth is None or depth - before < GAP * step
            slices.append(
                OutputSlice(
                    path=str(item.path),
                    entry=source.entry,
                    frame=source.frame,
                    axis=source.axis,
                    turn=source.turn,
                    mask=f"masks/{item.file}.png",
                    position=item.frame.position,
                    orientation=item.frame.orientation,
                    spacing=item.frame.spacing,
                    joined=joined,
                )
            )
            before = depth
    whole = len(slices) == len(series.slices)
    return SeriesRequest(
        out=str(out.resolve()),
        alias=series.alias,
        form=series.form,
        kinds=orders.list_kinds(series.form),
        links=orders.links,
        labels=tuple(label.name for label in contract.output.lesions),
        colours=tuple(label.colour for label in contract.output.lesions),
        model=(contract.model.id, contract.model.version),
        identity=f"{contract.digest} {contract.model.sha256} {orders.threshold}",
        version=orders.version,
        slices=tuple(slices),
        gapped=series.judged.series.steps.missing > 0 or not whole,
    )


def discard_others(out: Path, alias: str, keep: Collection[str]) -> None:
    """Remove an earlier run's files of a series that this one did not write: they may be wrong now."""
    names = [f"nifti/{alias}.nii.gz"]
    with suppress(OSError):
        names += [f"dicom/{alias}/{path.name}" for path in (out / "dicom" / alias).iterdir()]
    for name in names:
        if name not in keep:
            try:
                remove_inside(out / name, out)
            except OSError as error:
                raise OutputError(str(out / name), error.strerror or str(error), "remove it") from None
