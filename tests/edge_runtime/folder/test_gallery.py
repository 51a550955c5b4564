"""The gallery page and its sprites, without a browser."""

from __future__ import annotations

import json
import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import numpy as np
import pytest

from edge_runtime.folder.gallery.page import to_url, write_gallery
from edge_runtime.folder.gallery.thumbnails import draw_sprite, letterbox
from edge_runtime.images.overlay import TINT

COLUMNS = [
    *("file", "status", "error", "width", "height", "lesion_pixels", "lesion_fraction", "components"),
    *("max_probability", "flags", "read_ms", "infer_ms", "write_ms", "input_sha256"),
]
HOSTILE = [
    "</script><script>alert(1)</script>.png",
    "<!--<script>.png",
    '"quoted" onerror="alert(1).png',
    "it's & co #1 ?x=1 100%25.png",
    "line\nbreak\r\t.png",
    "日本語 é 💀.png",
    "\u2028\u2029\u202e.png",
    "\udcff\udce9.png",
    "{{facts}}{{data}}.png",
    "javascript:alert(1).png",
    "\\1 \\g<0>.png",
    "sub dir/../b.png",
]


def make_row(name: str, **known: str) -> dict[str, str]:
    row = dict.fromkeys(COLUMNS, "") | {"file": name, "status": "ok", "lesion_pixels": "12", "lesion_fraction": "0.001"}
    paths = {"sprite": f"gallery/{name}.jpg", "mask": f"masks/{name}", "overlay": f"overlays/{name}"}
    return row | paths | known


class Page(HTMLParser):
    """What an HTML parser finds: its tags in order, with the text of the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data
        self.words.append(data)

    @property
    def shape(self) -> list[str]:
        return [tag for tag, _ in self.tags]


def write_page(folder: Path, rows: list[dict[str, str]], **facts: object) -> Page:
    write_gallery(folder / "index.html", rows, facts)
    return Page((folder / "index.html").read_text("utf-8"))


def read_rows(page: Page) -> list[dict[str, str]]:
    data = json.loads(page.scripts[0])
    return [dict(zip(data["columns"], cells, strict=True)) for cells in data["rows"]]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """No name, error, flag or column can add an element to the page or end its script."""
    tame = write_page(tmp_path, [make_row("a.png")])
    hostile = [make_row(name, error=name, flags=name) | {f"pixels_{name}": name} for name in HOSTILE]
    assert write_page(tmp_path, hostile).shape == tame.shape
    page = write_page(tmp_path, hostile)
    assert not set("<>&\u2028\u2029") & set(page.scripts[0])
    assert page.scripts[1:] == tame.scripts[1:]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_facts_stay_text(tmp_path: Path, name: str) -> None:
    """No fact of the run, neither its name nor its value, can add an element or an attribute to the page."""
    tame = write_page(tmp_path, [], engine="x", intended_use="x", other="x")
    page = write_page(tmp_path, [], engine=name, intended_use=name, **{name: name})
    assert page.shape == tame.shape
    assert [sorted(attrs) for _, attrs in page.tags] == [sorted(attrs) for _, attrs in tame.tags]


def test_rows_come_back_from_the_page(tmp_path: Path) -> None:
    """The JSON in the page holds every row, in order, with every cell as it stood in results.csv."""
    rows = [make_row(name, error=name) for name in HOSTILE]
    rows[3]["pixels_edema"] = "7"
    found = read_rows(write_page(tmp_path, rows))
    for row, back in zip(rows, found, strict=True):
        assert {key: back[key] for key in COLUMNS} == {key: row[key] for key in COLUMNS}
        assert back["pixels_edema"] == row.get("pixels_edema", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_addresses_decode_to_the_files(tmp_path: Path, name: str) -> None:
    """A browser that resolves an address against the page reaches exactly the bytes of the file's path."""
    [row] = read_rows(write_page(tmp_path, [make_row(name)]))
    for column in ("sprite", "mask", "overlay"):
        target = urlsplit(urljoin("file:///OUT/index.html", row[column]))
        assert (target.scheme, target.netloc, target.query, target.fragment) == ("file", "", "", "")
        expected = os.fsencode(os.path.normpath("/OUT/" + make_row(name)[column]))
        assert unquote_to_bytes(target.path) == expected
    assert re.fullmatch(r"[A-Za-z0-9%/._~-]+", row["mask"])


@pytest.mark.parametrize("path", ["//host/a.png", "javascript:alert(1)", "https://host/a.png", "data:text/html,x"])
def test_an_address_names_no_host_and_no_scheme(path: str) -> None:
    """Whatever a path contains, its URL stays a file below the page."""
    assert urljoin("file:///OUT/index.html", to_url(path)).startswith("file:///OUT/")


def test_a_failed_row_has_no_addresses(tmp_path: Path) -> None:
    """An empty path stays empty instead of turning into a link to the folder."""
    failed = make_row("a.png", status="failed", error="no", sprite="", mask="", overlay="")
    [row] = read_rows(write_page(tmp_path, [failed]))
    assert (row["sprite"], row["mask"], row["overlay"]) == ("", "", "")


def test_only_present_facts_are_shown(tmp_path: Path) -> None:
    """The header shows the facts that are given, under the page's labels, and nothing for the others."""
    words = write_page(
        tmp_path, [], engine="litert", images_per_second=17.43123, model_id=None, failed=0, intended_use="Not a device"
    ).words
    assert {"Engine", "litert", "Images per second", "17.43", "Failed", "0", "Not a device"} <= set(words)
    assert "Model" not in words
    assert "notice" not in [attrs.get("class") for _, attrs in write_page(tmp_path, []).tags]


def test_the_page_reaches_no_network(tmp_path: Path) -> None:
    """The page's policy forbids everything but its own script, style and local images, and it names no other host."""
    page = write_page(tmp_path, [make_row("a.png")])
    [policy] = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:;")
    assert "//" not in re.sub(r"//\s.*", "", (tmp_path / "index.html").read_text("utf-8"))  # comments aside


def test_without_script_the_numbers_are_linked(tmp_path: Path) -> None:
    """A browser without JavaScript is pointed to results.csv."""
    write_gallery(tmp_path / "index.html", [], {})
    text = (tmp_path / "index.html").read_text("utf-8")
    assert 'href="results.csv"' in text[text.index("<noscript>") : text.index("</noscript>")]


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    """An older page is replaced, and no other file stays in the folder."""
    (tmp_path / "index.html").write_text("old")
    write_gallery(tmp_path / "index.html", [make_row("a.png")], {})
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text("utf-8").rstrip().endswith("</html>")


def test_a_failed_write_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses the new page, the old one is untouched and no half-written file stays."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "index.html").write_text("old")
    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(Exception, match="No space left"):
        write_gallery(tmp_path / "index.html", [], {})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_twenty_thousand_rows_stay_small(tmp_path: Path) -> None:
    """A run of 20,000 images makes a page of less than 6 MB in less than 5 seconds."""
    numbers = {"width": "512", "height": "512", "components": "1", "max_probability": "0.9731", "read_ms": "2.4"}
    times = {"infer_ms": "41.5", "write_ms": "8.7", "input_sha256": "0123456789abcdef" * 4}
    rows = [make_row(f"patient_{i // 100:03d}/slice_{i:05d}.png", **numbers, **times) for i in range(20_000)]
    start = time.perf_counter()
    write_gallery(tmp_path / "index.html", rows, {})
    assert time.perf_counter() - start < 5
    assert (tmp_path / "index.html").stat().st_size < 6e6


def place_naively(view: np.ndarray, side: int) -> np.ndarray:
    """Nearest-pixel letterbox, one pixel at a time: the oracle for geometry."""
    height, width = view.shape[:2]
    tall, wide = (max(1, round(n * side / max(height, width))) for n in (height, width))
    square = np.zeros((side, side, 3), np.uint8)
    for y in range(tall):
        for x in range(wide):
            pixel = view[int((y + 0.5) * height / tall), int((x + 0.5) * width / wide)]
            square[(side - tall) // 2 + y, (side - wide) // 2 + x] = pixel
    return square


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (91, 250), (20, 30), (1, 400), (400, 1)])
@pytest.mark.parametrize("side", [64, 97])
def test_letterbox_matches_a_naive_oracle(size: tuple[int, int], side: int) -> None:
    """A smooth image lands where a pixel-by-pixel letterbox puts it, with exactly the same black bars."""
    ramps = np.meshgrid(np.linspace(60, 200, size[0]), np.linspace(60, 200, size[1]), indexing="ij")
    view = np.stack([*ramps, np.full(size, 99)], axis=2).astype(np.uint8)
    got, expected = letterbox(view, side), place_naively(view, side)
    assert np.array_equal(got.any(axis=2), expected.any(axis=2))
    assert np.abs(got.astype(int) - expected).max() <= 140 * 2 / min(max(min(size), 20), side) + 2


RED, GREEN = (255, 0, 0), (0, 255, 0)


def test_views_stand_in_order() -> None:
    """The sprite holds original, mask, overlay and contour, left to right, each side pixels wide."""
    labels = np.zeros((50, 50), np.uint8)
    labels[10:40, 10:40] = 1
    sprite = draw_sprite(np.full((50, 50), 100, np.uint8), labels, [RED], side=50)
    assert (sprite.shape, sprite.dtype) == ((50, 200, 3), np.uint8)
    original, mask, overlay, contour = np.split(sprite, 4, axis=1)
    assert (original == 100).all()
    assert np.array_equal(mask, np.repeat(labels[:, :, None] * 255, 3, axis=2))
    inside = slice(11, 39), slice(11, 39)
    tint = np.array([100 * (1 - TINT) + 255 * TINT, 100 * (1 - TINT), 100 * (1 - TINT)])
    assert np.abs(overlay[inside] - tint).max() <= 0.51
    assert (contour[inside] == 100).all()
    for view in (overlay, contour):
        assert (view[10, 10:40] == RED).all()
        assert (view[labels == 0] == 100).all()


def test_every_label_shows_in_its_colour() -> None:
    """Two lesions of different labels are both white in the mask and each outlined in its own colour."""
    labels = np.zeros((400, 300), np.uint8)
    labels[40:120, 40:120], labels[200:320, 150:260] = 1, 2
    sprite = draw_sprite(np.zeros((400, 300), np.uint8), labels, [RED, GREEN], side=100)
    _, mask, _, contour = np.split(sprite, 4, axis=1)
    left = (100 - 75) // 2
    assert mask[20, left + 20].all() and mask[65, left + 50].all()
    assert tuple(contour[10, left + 20]) == RED
    assert tuple(contour[50, left + 50]) == GREEN


def test_grey_and_colour_originals_agree() -> None:
    """A grey image and the same image as RGB make the same sprite; channels keep their order."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (40, 70), np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    labels = (grey > 128).astype(np.uint8)
    assert np.array_equal(draw_sprite(grey, labels, [RED]), draw_sprite(colour, labels, [RED]))
    red = np.zeros((10, 10, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    assert tuple(letterbox(red, 16)[8, 8]) == (200, 0, 0)


@pytest.mark.parametrize("label", [1, 3])
@pytest.mark.parametrize("size", [(2000, 3000), (64, 64), (20, 30)])
def test_a_single_lesion_pixel_stays_white(label: int, size: tuple[int, int]) -> None:
    """A lesion of one pixel of any label shows as pure white at its place, however large the image."""
    mask = np.zeros(size, np.uint8)
    y, x = size[0] // 3, size[1] // 4
    mask[y, x] = label
    view = draw_sprite(np.zeros(size, np.uint8), mask, [RED] * 3, side=64)[:, 64:128]
    assert set(np.unique(view)) == {0, 255}
    scale = 64 / max(size)
    top, left = (64 - round(size[0] * scale)) // 2, (64 - round(size[1] * scale)) // 2
    assert view[top + int((y + 0.5) * scale), left + int((x + 0.5) * scale)].all()


def test_an_empty_mask_is_black() -> None:
    """An image without lesion pixels shows a mask without any."""
    blank = np.full((300, 200, 3), 90, np.uint8)
    assert not draw_sprite(blank, np.zeros((300, 200), np.uint8), [RED])[:, 224:448].any()
