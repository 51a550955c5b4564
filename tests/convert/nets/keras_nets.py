"""Small segmentation nets as users write them, and hostile archives that need no Keras to make."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any


def build_unet(
    size: tuple[int | None, int | None] = (64, 64),
    channels: int = 3,
    classes: int = 1,
    up: str = "transpose",
    filters: tuple[int, ...] = (16, 32),
    activation: str | None = None,
    rescale: bool = False,
) -> Any:
    """Return a U-Net; `up` is "transpose" (in a nested model) or "nearest" or "bilinear"."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((*size, channels))
    x, skips = layers.Rescaling(1 / 255)(image) if rescale else image, []
    for count in filters:
        x = block(x, count)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, 2 * filters[-1])
    for count, skip in zip(reversed(filters), reversed(skips), strict=True):
        if up == "transpose":
            inner = keras.Input((None, None, x.shape[-1]))
            raised = layers.Conv2DTranspose(count, 3, strides=2, padding="same", name=f"raise_{count}")(inner)
            x = keras.Model(inner, raised, name=f"nested_{count}")(x)
        else:
            x = layers.UpSampling2D(interpolation=up)(x)
        x = block(layers.Concatenate()([x, skip]), count)
    default = "sigmoid" if classes == 1 else "softmax"
    mask = layers.Conv2D(classes, 1, activation=activation or default, name="mask", dtype="float32")(x)
    return keras.Model(image, mask)


def block(x: Any, filters: int) -> Any:
    """Return x after convolution, batch normalization and ReLU."""
    from keras import layers

    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def spread(model: Any) -> Any:
    """Return the model with batch statistics as after training: nothing at its initial value."""
    import numpy as np

    rng = np.random.default_rng(3)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if type(layer).__name__ == "BatchNormalization":
            shape = layer.gamma.shape
            values = (rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.2, shape), rng.normal(0, 0.2, shape))
            layer.set_weights([*values, rng.uniform(0.5, 2, shape)])
    return model


def write_archive(path: Path, config: Any, weights: bytes | None = None, **others: bytes) -> Path:
    """Write a .keras archive with that config, an empty HDF5 file as weights, and other entries."""
    if weights is None:
        import h5py

        buffer = io.BytesIO()
        with h5py.File(buffer, "w"):
            pass
        weights = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        if config is not None:
            archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", weights)
        for name, data in others.items():
            archive.writestr(name, data)
    return path


def layer(class_name: str, name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    """Return one layer's entry in a config."""
    registered = config.pop("registered_name", None)
    config = {"name": name, **config}
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered}


def functional(*layers: Any) -> dict[str, Any]:
    """Return a functional model's config around layers."""
    config = {"name": "net", "layers": list(layers)}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": config,
    }
