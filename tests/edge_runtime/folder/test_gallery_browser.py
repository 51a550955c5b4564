"""The gallery page in headless Chromium: what its script makes of the rows."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.folder.gallery.page import write_gallery
from edge_runtime.folder.gallery.thumbnails import draw_sprite

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome to render the page")

INJECTION = "<img src=x onerror=\"document.title='owned'\">"
ROWS = [  # name, lesion pixels; '' failed
    ("tiny.png", "9"),
    ("</script><script>document.title='owned'<x.png", "1200"),
    ("empty.png", "0"),
    (f"{INJECTION.replace('/', '')}.png", "100"),
    ("broken.png", ""),
    ("a#1?x=%41 'é'\n.png", "30000"),
    ("\udcff.png", "11"),
]
BY_AREA = [6, 2, 4, 7, 1, 3, 5]  # row numbers, the failed one last


def make_row(out: Path, name: str, pixels: str) -> dict[str, str]:
    if not pixels:
        return {"file": name, "status": "failed", "error": INJECTION, "sprite": "", "mask": "", "overlay": ""}
    row = {"file": name, "status": "ok", "lesion_pixels": pixels, "lesion_fraction": "0.01", "max_probability": "0.9"}
    image, mask = np.full((40, 60), 90, np.uint8), np.eye(40, 60, dtype=np.uint8)
    colour = np.repeat(image[..., None], 3, axis=2)
    pictures = {"sprite": draw_sprite(image, mask, [(255, 0, 0)], side=32), "mask": mask * 255, "overlay": colour}
    for column, picture in pictures.items():
        row[column] = f"{column}s/{name}"
        path = out / row[column]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return row | {"flags": INJECTION if pixels == "9" else ""}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    facts = {"engine": INJECTION, "ok": 6, "failed": 1, "intended_use": "Not a medical device."}
    write_gallery(out / "index.html", [make_row(out, *row) for row in ROWS], facts)
    return out / "index.html"


def render(page: Path, address: str, profile: Path) -> tuple[str, str]:
    """The page's elements after its script ran, and what the browser complained about."""
    command = [
        str(CHROMIUM),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
        *("--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom", f"--user-data-dir={profile}"),
        page.as_uri() + address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def cards(dom: str) -> list[int]:
    return [int(number) for number in re.findall(r'data-row="(\d+)"', dom)]


def test_cards_are_sorted_by_area(page: Path, tmp_path: Path) -> None:
    """`#sort=area` draws one card a row, the largest lesion first and what has no area last, without a complaint."""
    dom, complaints = render(page, "#sort=area", tmp_path)
    assert cards(dom) == BY_AREA
    assert complaints == ""


def test_ascending_keeps_the_failed_last(page: Path, tmp_path: Path) -> None:
    """`dir=asc` turns the areas round and still leaves the images without one at the end."""
    dom, _ = render(page, "#sort=area&dir=asc", tmp_path)
    assert cards(dom) == [*BY_AREA[-2::-1], BY_AREA[-1]]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("#filter=lesion", [1, 2, 4, 6, 7]),
        ("#filter=none", [3]),
        ("#filter=flagged", [1]),
        ("#filter=failed", [5]),
        ("#q=TINY", [1]),
        ("#q=%5Cxff", [7]),
        ("#q=nowhere", []),
        ("#sort=__proto__&filter=constructor", [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_filters_and_search(page: Path, tmp_path: Path, address: str, expected: list[int]) -> None:
    """A filter or a search in the address leaves exactly the rows that match; nonsense leaves them all."""
    assert cards(render(page, address, tmp_path)[0]) == expected


def test_names_stay_text(page: Path, tmp_path: Path) -> None:
    """Names, errors, flags and facts with markup appear as text: they add no element, handler or title."""
    dom, _ = render(page, "#5", tmp_path)
    assert "<title>Segmentation results</title>" in dom
    assert dom.count("<script") == 2
    assert INJECTION not in dom
    assert html.escape(INJECTION, quote=False) in dom


def test_every_picture_is_found(page: Path, tmp_path: Path) -> None:
    """The addresses of hostile names lead to their files: no card falls back to 'No preview'."""
    dom, _ = render(page, "#view=mask", tmp_path)
    assert dom.count('class="thumb"') == 6
    assert ">No preview<" not in dom
    assert "alt=\"Mask view of a#1?x=%41 'é'\\n.png\"" in dom


def test_the_address_opens_a_row(page: Path, tmp_path: Path) -> None:
    """`#6` opens the panel of row 6 with four views and links to the full-size mask and overlay."""
    dom, complaints = render(page, "#6", tmp_path)
    panel = dom[dom.index("<dialog") : dom.index("</dialog>")]
    assert re.match(r"<dialog[^>]* open", panel)
    assert re.findall(r"<figcaption>(\w+)<", panel) == ["Original", "Mask", "Overlay", "Contour"]
    assert 'href="./masks/a%231%3Fx%3D%2541%20%27%C3%A9%27%0A.png"' in panel
    assert "30,000 px" in panel
    assert complaints == ""


ZOOM = """<script>
setTimeout(() => {
  const views = document.querySelectorAll(".window");
  const act = (view, kind, clientX, clientY) =>
    view.dispatchEvent(new PointerEvent(kind, {bubbles: true, pointerId: 1, clientX, clientY}));
  const lift = () => act(document.body, "pointerup", 0, 0);
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", {key}));
  STEPS
}, 300);
</script></body>"""


def zoomed(page: Path, steps: str, profile: Path) -> str:
    """The panel of row 6 after steps in the browser."""
    changed = page.with_name("zoomed.html")
    changed.write_text(page.read_text("utf-8").replace("</body>", ZOOM.replace("STEPS", steps)), "utf-8")
    dom, complaints = render(changed, "#6", profile)
    assert complaints == ""
    return dom[dom.index("<dialog") : dom.index("</dialog>")]


def find_transforms(panel: str) -> list[tuple[float, float, float]]:
    """Each picture's (right, down, scale)."""
    found = re.findall(r"transform: translate\(([-\d.]+)%, ([-\d.]+)%\) scale\(([\d.]+)\)", panel)
    return [(float(right), float(down), float(scale)) for right, down, scale in found]


def test_the_four_views_are_zoomed_together(page: Path, tmp_path: Path) -> None:
    """Two steps make four times as large; what is dragged 40 pixels moves that far in every view, and not beyond."""
    assert find_transforms(zoomed(page, "", tmp_path)) == []
    drag = "act(views[2], 'pointerdown', 100, 100); act(views[2], 'pointermove', X, Y); lift();"
    near, far = drag.replace("X, Y", "60, 100"), drag.replace("X, Y", "-9000, 9000")
    panel = zoomed(page, f"press('+'); document.getElementById('larger').click(); {near}", tmp_path)
    moves = find_transforms(panel)
    assert len(moves) == 4 and len(set(moves)) == 1
    assert moves[0][1:] == (0, 4) and -100 < moves[0][0] < 0
    assert ">× 4<" in panel
    assert find_transforms(zoomed(page, f"press('+'); {far}", tmp_path))[0] == (-50, 50, 2)
    assert find_transforms(zoomed(page, "press('+'); press('0')", tmp_path)) == []


def test_a_click_shows_one_view_alone(page: Path, tmp_path: Path) -> None:
    """A click on a picture enlarges it alone, a second one brings all back; a drag is no click."""
    click = "act(views[1], 'pointerdown', 9, 9); lift(); views[1].click();"
    panel = zoomed(page, click, tmp_path)
    assert 'class="views alone"' in panel
    assert re.findall(r'<figure class="chosen">.*?<figcaption>(\w+)', panel) == ["Mask"]
    assert 'class="views"' in zoomed(page, click * 2, tmp_path)
    drag = "act(views[1], 'pointerdown', 9, 9); act(views[1], 'pointermove', 40, 9); views[1].click();"
    assert 'class="views"' in zoomed(page, drag, tmp_path)


def test_the_original_is_shown_at_full_size(tmp_path: Path) -> None:
    """With a path to it the panel shows and links the input itself; where that is gone, the small picture stands in."""
    out = tmp_path / "out"
    rows = [make_row(out, "a.png", "9") | {"original": "../in/a b.png"}, make_row(out, "b.png", "9") | {"original": ""}]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.png").write_bytes(cv2.imencode(".png", np.full((40, 60), 90, np.uint8))[1].tobytes())
    write_gallery(out / "index.html", rows, {})
    dom, complaints = render(out / "index.html", "#1", tmp_path / "profile")
    panel = dom[dom.index("<dialog") : dom.index("</dialog>")]
    assert 'href="./../in/a%20b.png"' in panel and 'src="./../in/a%20b.png"' in panel and complaints == ""
    panel = render(out / "index.html", "#2", tmp_path / "profile")[0].split("<dialog")[1].split("</dialog>")[0]
    assert "Full-size original" not in panel
    (tmp_path / "in" / "a b.png").unlink()
    panel = render(out / "index.html", "#1", tmp_path / "profile")[0].split("<dialog")[1].split("</dialog>")[0]
    assert 'src="./../in' not in panel and panel.count('src="./sprites/a.png"') == 2
