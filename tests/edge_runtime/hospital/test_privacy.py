"""No text of a file, name or path is printed: strings planted everywhere are found nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import hospital_cd as cd
import nibabel
import numpy as np
import pytest
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from edge_runtime.hospital.headers.scan import HeaderReader

ROOT = Path(__file__).parents[3]
PLANT = "ZZDOEJANE"
TEXTS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR")
NUMBERS = ("AS", "DA", "TM", "DT", "IS", "DS", "UI")  # planted in, they are not valid
KEPT = ("SOPClassUID", "SpecificCharacterSet", "TransferSyntaxUID")
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "NumberOfFrames")


def plant(item: Dataset, kinds: tuple[str, ...], keep: tuple[str, ...] = ()) -> Dataset:
    """Write the string into every element of these kinds that the dictionary has a name for."""
    for keyword, tag in sorted(keyword_dict.items()):
        if tag >> 16 in (0x0000, 0x0002, 0x0004, 0xFFFE) or keyword in (*KEPT, *keep):
            continue
        if dictionary_VR(tag) in kinds:
            kind, value = dictionary_VR(tag), PLANT.encode() + b" "
            item[tag] = RawDataElement(Tag(tag), kind, len(value), value, 0, False, True)
    block = item.private_block(0x0009, PLANT, create=True)
    block.add_new(1, "LO", PLANT)
    return item


def list_planted() -> Iterator[Dataset]:
    slices = list(cd.make_slices(cd.plan(20, cd.T1CE, 1, "t1ce")))
    yield from (plant(item, TEXTS, ("Modality", "PhotometricInterpretation")) for item in slices)
    for item in cd.make_slices(cd.plan(21, cd.T1, 2)):
        yield plant(item, TEXTS, ("Modality", "ImageType", "ScanningSequence", "PhotometricInterpretation"))
    for item in cd.make_slices(cd.plan(22, cd.T2, 3)):
        yield plant(item, NUMBERS, GEOMETRY)
    for item in cd.make_slices(cd.plan(23, cd.T1CE, 3)):
        yield plant(item, (*TEXTS, *NUMBERS))
    yield plant(cd.to_enhanced(list(cd.make_slices(cd.plan(24, cd.T1CE, 3)))), TEXTS)
    yield plant(cd.list_objects()[-1], TEXTS)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CD whose texts, invalid values, names, zip comment, DICOMDIR and NIfTI header hold the string."""
    folder = tmp_path_factory.mktemp("x") / PLANT
    folder.mkdir()
    (folder / "inner").mkdir()
    names = []
    for number, item in enumerate(list_planted()):
        names.append(f"inner/{PLANT}{number}")
        data = folder / names[-1]
        item.save_as(data, implicit_vr=False, little_endian=True, enforce_file_format=False)
        if number % 4 == 0:
            (folder / "inner" / f"{PLANT} cut {number}").write_bytes(data.read_bytes()[: 300 + 40 * number])
    directory = cd.make_directory([*names[::2], f"inner/{PLANT}GONE"], PLANT)
    directory.FileSetID = PLANT
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    with zipfile.ZipFile(folder / f"{PLANT}.zip", "w") as file:
        file.comment = PLANT.encode()
        file.write(folder / names[0], f"{PLANT}/{PLANT}.dcm")
        file.writestr(f"{PLANT}.txt", PLANT)
    image = nibabel.Nifti1Image(np.zeros((8, 8, 4), np.uint8), np.eye(4))
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[name] = PLANT
    nibabel.save(image, folder / f"{PLANT}.nii.gz")
    (folder / f"{PLANT}.nii").write_bytes(image.to_bytes()[:300])
    return folder


def run(*arguments: object, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "edge_runtime.cli", "--list", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)


def test_the_strings_are_there(planted: Path) -> None:
    """The test below looks for what was planted hundreds of times."""
    data = (planted / "inner" / f"{PLANT}0").read_bytes()
    assert data.count(PLANT.encode()) > 500 and b"PatientName" not in data


@pytest.mark.parametrize("mode", [(), ("--json",), ("--recursive",)], ids=str)
def test_nothing_of_it_is_printed(planted: Path, mode: tuple[str, ...]) -> None:
    """Neither in the table, nor in the JSON, nor on stderr; and there are rows."""
    done = run(*mode, planted)
    assert done.returncode in (0, 3) and len(done.stdout.splitlines()) > 5
    assert PLANT.lower() not in (done.stdout + done.stderr).lower()
    assert done.stderr.count("\n") == 1 and "assumed" in done.stderr


def test_errors_quote_no_path(planted: Path, tmp_path: Path) -> None:
    """A path that does not exist, a folder of other files, and a package that is missing."""
    empty = tmp_path / PLANT
    empty.mkdir()
    (empty / f"{PLANT}.txt").write_text(PLANT)
    (tmp_path / "pydicom.py").write_text("raise ModuleNotFoundError('No pydicom', name='pydicom')\n")
    for done in (run(planted / "gone"), run(empty), run(planted, path=str(tmp_path))):
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("edge-seg: error: ") and done.stderr.count("\n") == 1
        assert PLANT.lower() not in done.stderr.lower()


def test_not_even_the_parent_is_told(planted: Path) -> None:
    """What the child answers of a file that is no zip holds none of its texts, nor an identifier."""
    reader = HeaderReader()
    for path in sorted(planted.rglob("*")):
        if path.is_file() and path.suffix != ".zip" and path.name != "DICOMDIR":
            answers = json.dumps(list(reader.ask(path)))
            assert PLANT.lower() not in answers.lower() and "1.2.826" not in answers and "20200101" not in answers
    reader.close()
