"""Makes a data folder of a published data set: reads it, finds copies, groups slices by patient, writes it whole."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ImageError, OutputError, UsageError
from edge_runtime.images.write import encode_mask, encode_png
from edge_runtime.system.files import TEMPORARY
from reference.data.folders import read_folder, read_labels
from reference.data.phantom import write_labels
from reference.data.same_slice import Fingerprints, find_copies, make_fingerprint, stack_fingerprints

from .download import Problem, SetSource, open_source
from .figshare import read_figshare
from .kaggle import read_classes, read_segmentation
from .layouts import Scan
from .page import render_page
from .patients import check_labels, exclude_contradictions, exclude_known, name_patients
from .report import ImportResult, SliceFacts, describe_import, to_json

WRITTEN = {"images", "masks", "unmasked", "labels.csv", "import.json", "import.md"}  # all names that an import writes
MAX_NAMED = 8  # problems that an error names


@dataclass(frozen=True)
class ImportOptions:
    """The options of an import besides source and destination."""

    against: Sequence[Path] = ()  # data folders whose slices and patients are left out
    labels: Path | None = None  # classes and patients for kaggle-segmentation
    skip_damaged: bool = False
    force: bool = False


def import_set(
    set_name: str, source: Path, dest: Path, options: ImportOptions, progress: Callable[[int], None]
) -> ImportResult:
    """Write a published set as the data folder `dest`, whole or not at all; return the findings.

    Raises: UsageError for an unusable source, destination or labels; ImageError naming the damaged or missing files,
    unless they are skipped; OutputError if the folder cannot be written.
    """
    try:
        check_dest(source, dest, options)
    except OSError as error:
        raise OutputError(str(dest), error.strerror or str(error), "name another folder") from None
    for folder in options.against:
        read_folder(folder)  # to refuse it now, not after minutes
    labels = read_given_labels(options.labels, set_name)
    with stage_folder(dest) as work, open_source(source, work) as opened:
        read = READERS[set_name](opened) if labels is None else read_segmentation(opened, labels)
        scans, fingerprints, problems = write_slices(read, work, progress)
        problems = [*opened.problems, *problems]
        if options.labels is not None:
            check_labels(options.labels, scans, fingerprints)
        if problems and not options.skip_damaged:
            raise make_problem_error(source, problems, len(scans))
        copies = find_copies(fingerprints)
        patients, merged = name_patients(scans, copies)
        digest, files = opened.digest(), len(opened.digests)
        name, labelled = source.resolve().name, labels is not None
        result = ImportResult(set_name, name, files, digest, problems, scans, copies, patients, merged, labelled)
        exclude_contradictions(result)
        for folder in options.against:
            exclude_known(result, fingerprints, folder)
        finish_folder(result, work)
    return result


def read_given_labels(path: Path | None, set_name: str) -> dict[str, tuple[str, str]] | None:
    """Return the labels given on the command line. Raises: UsageError."""
    if path is None:
        return None
    if set_name != "kaggle-segmentation":
        raise UsageError("--labels", f"{set_name} has classes of its own", "leave it out")
    try:
        labels = read_labels(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(str(path), f"it cannot be read as a table ({error})", "give a labels.csv") from None
    if None in labels or any(None in row for row in labels.values()):
        raise UsageError(str(path), "a row has too few columns", "give id, class and patient in each")
    return labels


# ---------------------------------------------------------------- the destination


def check_dest(source: Path, dest: Path, options: ImportOptions) -> None:
    """Refuse a destination that is not empty, or that overlaps with what is read.

    Raises: UsageError or OutputError.
    """
    resolved = dest.resolve()
    for folder in (source, *options.against):
        other = folder.resolve()
        if resolved == other or resolved in other.parents or (other in resolved.parents and folder is source):
            raise UsageError(str(dest), f"it is inside {folder} or contains it", "name a folder elsewhere")
    if not dest.exists() and not dest.is_symlink():
        return
    if not dest.is_dir():
        raise OutputError(str(dest), "it is not a folder", "name a new folder")
    existing = sorted(path.name for path in dest.iterdir())
    if existing and not options.force:
        raise OutputError(str(dest), "it is not empty", "name a new folder, or replace it with --force")
    foreign = [name for name in existing if name not in WRITTEN]
    if foreign:
        raise OutputError(str(dest), f"it holds {foreign[0]}, which no import wrote", "name a new folder")


@contextmanager
def stage_folder(dest: Path) -> Iterator[Path]:
    """Give a temporary folder that is renamed to `dest` at the end, or removed after an error.

    Raises: OutputError if the folder cannot be written.
    """
    token = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    work, old = dest.parent / token, dest.parent / f"{token}-old"
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        yield work
        if dest.is_dir():  # empty, or replaced
            dest.rename(old)
        work.rename(dest)
    except OSError as error:
        raise OutputError(str(dest), error.strerror or str(error), "make room or name another folder") from error
    finally:
        if old.exists() and not dest.exists():
            old.rename(dest)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)


def write_slices(
    read: Iterator[Scan | Problem], work: Path, progress: Callable[[int], None]
) -> tuple[list[SliceFacts], Fingerprints, list[Problem]]:
    """Write images and masks as they are read; return the slices' facts, their fingerprints, and the problems."""
    for folder in ("images", "masks"):
        (work / folder).mkdir()
    scans, fingerprints, problems = [], [], []
    for item in read:
        if isinstance(item, Problem):
            problems.append(item)
            continue
        masked = item.mask is not None
        path = locate_image(work, item.name, masked)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(item.image))
        if item.mask is not None:
            (work / "masks" / f"{item.name}.png").write_bytes(encode_mask(item.mask.astype("uint8") * 255))
        lesion = item.mask is not None and bool(item.mask.any())
        height, width = item.image.shape
        scans.append(SliceFacts(item.name, item.file, item.kind, item.patient, (height, width), masked, lesion))
        fingerprints.append(make_fingerprint(item.image))
        progress(len(scans))
    return scans, stack_fingerprints(fingerprints), problems


def locate_image(folder: Path, name: str, masked: bool) -> Path:
    """Return the path of a slice's image in a data folder: images without a mask are kept out of images/."""
    return folder / ("images" if masked else "unmasked") / f"{name}.png"


def finish_folder(result: ImportResult, work: Path) -> None:
    """Remove excluded slices, and write labels.csv and the report. Raises: UsageError if no slice is left."""
    for i in result.left_out:
        item = result.scans[i]
        locate_image(work, item.name, item.masked).unlink()
        (work / "masks" / f"{item.name}.png").unlink(missing_ok=True)
    imported = result.list_imported()
    if not imported:
        why = next((exclusion.why for exclusion in result.left_out.values()), "") or result.problems[0].why
        read = f"none of {len(result.scans)} slices is left" if result.scans else "no slice could be read"
        raise UsageError(result.source, f"{read} ({why})", "there is nothing to import")
    write_labels(
        work / "labels.csv", [(result.scans[i].name, result.scans[i].kind, result.patients[i]) for i in imported]
    )
    facts = describe_import(result)
    (work / "import.json").write_text(to_json(facts), encoding="utf-8")
    (work / "import.md").write_text(render_page(facts), encoding="utf-8", errors="backslashreplace")


def make_problem_error(source: Path, problems: Sequence[Problem], read: int) -> ImageError:
    """Return the error that names the damaged or missing files."""
    named = ", ".join(f"{problem.file} ({problem.why})" for problem in problems[:MAX_NAMED])
    more = f" and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
    count = sum(problem.count for problem in problems)
    return ImageError(
        str(source),
        f"{count} {'file is' if count == 1 else 'files are'} damaged or missing, {read} slices are not: {named}{more}",
        "get them again, or import the others with --skip-damaged",
    )


READERS: dict[str, Callable[[SetSource], Iterator[Scan | Problem]]] = {
    "figshare": read_figshare,
    "kaggle-segmentation": read_segmentation,
    "kaggle-classes": read_classes,
}
