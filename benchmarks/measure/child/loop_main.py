"""The loop that a user writes by hand: what a folder run is compared with. It uses nothing of this project.

`python loop_main.py MODEL.tflite IN OUT THREADS SCALE OFFSET THRESHOLD`: a mask and an overlay of each image in IN.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(model: str, source: str, target: str, threads: str, scale: str, offset: str, threshold: str) -> None:
    """Segment a folder."""
    interpreter = Interpreter(model, num_threads=int(threads))
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    _, height, width, channels = given["shape"]
    masks, overlays = Path(target, "masks"), Path(target, "overlays")
    for folder in (masks, overlays):
        folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(source).iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB)
        if image is None:
            continue
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        tensor = small.astype(np.float32) * float(scale) + float(offset)
        interpreter.set_tensor(given["index"], tensor.reshape(given["shape"]).astype(given["dtype"]))
        interpreter.invoke()
        output = interpreter.get_tensor(found["index"])[0]
        lesion = output[..., 0] if output.shape[-1] == 1 else 1 - output[..., 0]
        mask = (cv2.resize(lesion, image.shape[1::-1]) >= float(threshold)).astype(np.uint8) * 255
        cv2.imwrite(str(masks / f"{path.stem}.png"), mask)
        overlay = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_RGB2BGR)
        outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(overlay, outlines, -1, (0, 0, 255), 2)
        cv2.imwrite(str(overlays / f"{path.stem}.jpg"), overlay, [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main(*sys.argv[1:])
