"""From a published data set to a data folder: read, find copies, put each patient's together, write it whole."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ImageError, OutputError, UsageError
from edge_runtime.files import TEMPORARY
from edge_runtime.images import encode_mask, encode_png

from .copies import Prints, find_copies, stack_prints, take_print
from .data import read_folder, read_labels
from .import_report import Import, Kept, describe_import, write_json, write_markdown
from .patients import check_labels, leave_out_contradictions, leave_out_known, name_patients
from .phantom import write_labels
from .published import READERS, Scan, read_segmentation
from .source import Problem, open_source

OURS = {"images", "masks", "unmasked", "labels.csv", "import.json", "import.md"}  # all that an import writes
NAMED = 8  # problems in the one line of an error


@dataclass(frozen=True)
class Choices:
    """What the command line says besides source and destination."""

    against: Sequence[Path] = ()  # data folders: what is in them already is left out here
    labels: Path | None = None  # classes and patients for kaggle-segmentation
    skip_damaged: bool = False
    force: bool = False


def import_set(set_name: str, source: Path, dest: Path, choices: Choices, progress: Callable[[int], None]) -> Import:
    """Write a published set as the data folder `dest`, whole or not at all; return what was found.

    Raises: UsageError for a source, labels or destination that cannot be meant, ImageError naming the files that are
    damaged or missing unless they are to be skipped, OutputError if the folder cannot be written.
    """
    try:
        check_dest(source, dest, choices)
    except OSError as error:
        raise OutputError(str(dest), error.strerror or str(error), "name another folder") from None
    for folder in choices.against:
        read_folder(folder)  # to say now, not after minutes, that it is none
    labels = read_given_labels(choices.labels, set_name)
    with stage_folder(dest) as work, open_source(source, work) as opened:
        read = READERS[set_name](opened) if labels is None else read_segmentation(opened, labels)
        scans, prints, problems = write_scans(read, work, progress)
        problems = [*opened.problems, *problems]
        if choices.labels is not None:
            check_labels(choices.labels, scans, prints)
        if problems and not choices.skip_damaged:
            raise make_complaint(source, problems, len(scans))
        copies = find_copies(prints)
        patients, merged = name_patients(scans, copies)
        digest, files = opened.digest(), len(opened.digests)
        found = Import(
            set_name,
            source.resolve().name,
            files,
            digest,
            problems,
            scans,
            copies,
            patients,
            merged,
            labels is not None,
        )
        leave_out_contradictions(found)
        for folder in choices.against:
            leave_out_known(found, prints, folder)
        finish_folder(found, work)
    return found


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


def check_dest(source: Path, dest: Path, choices: Choices) -> None:
    """Refuse a destination that holds something, or that what is read would be destroyed by.

    Raises: UsageError or OutputError.
    """
    place = dest.resolve()
    for given in (source, *choices.against):
        other = given.resolve()
        if place == other or place in other.parents or (other in place.parents and given is source):
            raise UsageError(str(dest), f"it is in {given}, or the other way round", "name a folder elsewhere")
    if not dest.exists() and not dest.is_symlink():
        return
    if not dest.is_dir():
        raise OutputError(str(dest), "it is not a folder", "name a new folder")
    there = sorted(path.name for path in dest.iterdir())
    if there and not choices.force:
        raise OutputError(str(dest), "it is not empty", "name a new folder, or replace it with --force")
    foreign = [name for name in there if name not in OURS]
    if foreign:
        raise OutputError(str(dest), f"it holds {foreign[0]}, which no import wrote", "name a new folder")


@contextmanager
def stage_folder(dest: Path) -> Iterator[Path]:
    """Give a folder to write to that becomes `dest` at the end, whole, or vanishes.

    Raises: OutputError if the disk is full or refuses.
    """
    token = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    work, old = dest.parent / token, dest.parent / f"{token}-old"
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        yield work
        if dest.is_dir():  # empty, or to be replaced
            dest.rename(old)
        work.rename(dest)
    except OSError as error:
        raise OutputError(str(dest), error.strerror or str(error), "make room or name another folder") from error
    finally:
        if old.exists() and not dest.exists():
            old.rename(dest)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)


def write_scans(
    read: Iterator[Scan | Problem], work: Path, progress: Callable[[int], None]
) -> tuple[list[Kept], Prints, list[Problem]]:
    """Write images and masks as they are read; return what is kept of them, and the problems met."""
    for folder in ("images", "masks"):
        (work / folder).mkdir()
    scans, prints, problems = [], [], []
    for item in read:
        if isinstance(item, Problem):
            problems.append(item)
            continue
        (work / "unmasked").mkdir(exist_ok=True) if item.mask is None else None
        path_of(work, item.name, item.mask is not None).write_bytes(encode_png(item.image))
        if item.mask is not None:
            (work / "masks" / f"{item.name}.png").write_bytes(encode_mask(item.mask.astype("uint8") * 255))
        lesion = item.mask is not None and bool(item.mask.any())
        height, width = item.image.shape
        scans.append(
            Kept(item.name, item.place, item.kind, item.patient, (height, width), item.mask is not None, lesion)
        )
        prints.append(take_print(item.image))
        progress(len(scans))
    return scans, stack_prints(prints), problems


def path_of(folder: Path, name: str, masked: bool) -> Path:
    """Return where a slice's image lies in a data folder: without a mask, beside what is trained on."""
    return folder / ("images" if masked else "unmasked") / f"{name}.png"


def finish_folder(found: Import, work: Path) -> None:
    """Take out what is left out, and write labels.csv and the report. Raises: UsageError if nothing is left."""
    for i in found.left_out:
        item = found.scans[i]
        path_of(work, item.name, item.masked).unlink()
        (work / "masks" / f"{item.name}.png").unlink(missing_ok=True)
    stays = found.staying()
    if not stays:
        why = next((left.why for left in found.left_out.values()), "") or found.problems[0].why
        read = f"none of {len(found.scans)} slices is left" if found.scans else "no slice could be read"
        raise UsageError(found.source, f"{read} ({why})", "there is nothing to import")
    write_labels(work / "labels.csv", [(found.scans[i].name, found.scans[i].kind, found.patients[i]) for i in stays])
    facts = describe_import(found)
    (work / "import.json").write_text(write_json(facts), encoding="utf-8")
    (work / "import.md").write_text(write_markdown(facts), encoding="utf-8", errors="backslashreplace")


def make_complaint(source: Path, problems: Sequence[Problem], read: int) -> ImageError:
    """Return the error that names what is damaged or missing."""
    named = ", ".join(f"{problem.file} ({problem.why})" for problem in problems[:NAMED])
    more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    count = sum(problem.count for problem in problems)
    return ImageError(
        str(source),
        f"{count} {'file is' if count == 1 else 'files are'} damaged or missing, {read} slices are not: {named}{more}",
        "get them again, or import the others with --skip-damaged",
    )
