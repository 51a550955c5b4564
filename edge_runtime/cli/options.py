"""Which options does `edge-seg` have?"""

from __future__ import annotations

import argparse

from edge_runtime.images.limits import MAX_PIXELS, MAX_SECONDS
from edge_runtime.system.command import Parser, to_number, to_path, to_positive
from edge_runtime.system.command.common_options import add_common_options

PROGRAM = "edge-seg"
ENGINES = ("auto", "litert", "gpu", "openvino", "tflite-runtime")


KINDS = ("png", "seg", "sc", "nifti")


def to_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds of --write."""
    kinds = tuple(dict.fromkeys(text.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(KINDS)}")
    return kinds


def to_series(text: str) -> str:
    """Return the number of a series, or "all"."""
    if text != "all" and not (text.isdecimal() and text.isascii() and 0 < len(text) < 9):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of --list nor all")
    return text


def make_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser(
        prog=PROGRAM,
        description="Segment images (PNG, JPEG, TIFF, BMP; 8 or 16 bit) and folders of them, and series of MR slices "
        "(DICOM, NIfTI).",
        epilog="Exit: 0 all done; 3 some inputs failed, the rest is done; 1 error; 2 usage; 130 interrupted. "
        "The same command again goes on where it stopped and does only what is missing or changed.",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        type=to_path,
        metavar="INPUT",
        help="image files and folders; DICOM and NIfTI files, folders and zips of them (docs/hospital.md)",
    )
    parser.add_argument("-o", "--output", type=to_path, metavar="OUT", help="default: <first input's name>-seg, here")
    parser.add_argument("--model", type=to_path, metavar="M.tflite", help="default: the embedded model")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="default: auto, the best measured here")
    parser.add_argument("--threads", type=to_positive, metavar="N", help="of the engine; default: as measured")
    parser.add_argument("--workers", type=to_positive, metavar="N", help="images at a time; default: as measured")
    parser.add_argument("--retune", action="store_true", help="measure anew which engine is the best here")
    parser.add_argument("--threshold", type=float, metavar="T", help="instead of the contract's, between 0 and 1")
    parser.add_argument("--recursive", action="store_true", help="the folders in a folder too")
    parser.add_argument("--probability", action="store_true", help="write 16-bit probability maps too")
    parser.add_argument(
        "--overlay",
        choices=("jpeg", "png", "none"),
        default="jpeg",
        help="jpeg (default): of quality 90; png: without loss, four times as large and ten times as slow; none",
    )
    parser.add_argument("--no-overlay", action="store_const", const="none", dest="overlay", help="as --overlay none")
    parser.add_argument("--no-gallery", action="store_true", help="write no index.html")
    parser.add_argument("--force", action="store_true", help="do all again, also in a folder that holds other files")
    parser.add_argument(
        "--watch",
        type=to_path,
        metavar="INBOX",
        help="serve: segment what is copied into INBOX, each image once, until stopped",
    )
    parser.add_argument(
        "--settle",
        type=to_number,
        default=2.0,
        metavar="S",
        help="of --watch: a file is complete once unchanged for S seconds (default 2)",
    )
    parser.add_argument(
        "--isolation",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="segment in a process that is replaced when an image crashes it (default), or in this one",
    )
    parser.add_argument("--max-pixels", type=to_positive, default=MAX_PIXELS, metavar="N", help=f"default {MAX_PIXELS}")
    parser.add_argument(
        "--max-seconds",
        type=to_number,
        default=MAX_SECONDS,
        metavar="S",
        help=f"for one image (default {MAX_SECONDS:g})",
    )
    parser.add_argument("--max-memory", type=to_positive, metavar="MB", help="default: 80 %% of the machine's")
    parser.add_argument(
        "--list",
        action="store_true",
        help="list the DICOM and NIfTI series of folders, zips and files: whether the model was made for each, and why "
        "(docs/hospital.md); exit 3 if it was made for none",
    )
    parser.add_argument(
        "--series",
        action="append",
        type=to_series,
        metavar="N",
        help="segment this series of --list, whatever its verdict, or all; may be repeated",
    )
    parser.add_argument(
        "--write",
        type=to_kinds,
        metavar="KINDS",
        help="what to write of series beside masks: png (overlays, gallery), seg, sc, nifti; default png,seg of DICOM, "
        "png,nifti of NIfTI",
    )
    parser.add_argument(
        "--plane",
        choices=("acquired", "axial", "coronal", "sagittal"),
        default="acquired",
        help="how to cut NIfTI volumes; default acquired, along the last axis",
    )
    parser.add_argument(
        "--links",
        action="store_true",
        help="write links.csv, which says whose each series is, readable to you alone",
    )
    parser.add_argument(
        "--salt", type=to_path, metavar="FILE", help="secret of the series' aliases; default: OUT's own"
    )
    parser.add_argument("--info", action="store_true", help="show the model's contract and exit")
    parser.add_argument(
        "--selftest", action="store_true", help="run the model's golden vectors here; name the stage that diverges"
    )
    parser.add_argument("--doctor", action="store_true", help="check this machine; print a fix for each problem")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print run.json, or the output of --list, --info, --selftest or --doctor, as JSON",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_common_options(parser)
    return parser
