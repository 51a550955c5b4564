"""What does a model file state about itself, and where in the file? The contract, in the tail of the .tflite file.

Specification, edge-seg/2
=========================
A stamped model is a TFLite flatbuffer (bytes 4 to 8 are `TFL3`) followed at once by a ZIP archive with the entry
`contract.json`, and before it perhaps `golden.json`. TFLite interpreters ignore what follows the flatbuffer; every ZIP
reader finds the archive.

The tail, for a JSON text of N bytes (N <= 65536), little-endian, 124 + N bytes in all:

    at        bytes  what
    0             4  50 4B 03 04       local header
    4            10  14 00, 00 00, 00 00, 00 00, 21 00: version 2.0, no flags, stored, 00:00:00, 1980-01-01
    14           12  CRC-32 of the JSON, N, N
    26            4  0D 00, 00 00: the name has 13 bytes, there is no extra field
    30           13  contract.json
    43            N  the JSON
    43 + N        4  50 4B 01 02       central directory
    47 + N       12  14 00, then the 10 bytes of the local header's second row
    59 + N       12  CRC-32 of the JSON, N, N
    71 + N       18  0D 00, then 16 zero bytes: no extra field, comment, attributes; header at 0 of the tail
    89 + N       13  contract.json
    102 + N      22  50 4B 05 06, 00 00, 00 00, 01 00, 01 00, 3B 00 00 00, 43 + N (four bytes), 00 00: the end record

Offsets count from the start of the tail. With a golden.json of G bytes (G <= 65536) the tail has 222 + G + N bytes, all
integers as above:

    at            bytes   what
    0             41 + G  golden.json's local header, its name of 0B 00 bytes, and its G bytes
    41 + G        43 + N  contract.json's, as above
    84 + G + N        57  golden.json's central directory, its header at 0
    141 + G + N       59  contract.json's, its header at 41 + G
    200 + G + N       22  the end record: 02 00, 02 00, 74 00 00 00, 84 + G + N (four bytes), 00 00

A reader rebuilds the tail from the JSON texts and refuses a file whose tail is not the same byte for byte.

The JSON is canonical: UTF-8, keys sorted, no spaces, no NaN or infinity, no key twice, floats as Python's repr.
Every field but `classes`, `triage` and `golden` is required, none has a default, what is not known is written as null,
and no other field is allowed:

    format        "edge-seg/2"
    model         id, version; bytes, sha256 of the flatbuffer before the tail
    input         shape [1, H, W, C], of a model of volumes [1, D, H, W, C]; dtype float32|int8|uint8; colour grey
                  (C = 1) | rgb (C = 3); resize "stretch-area"; scale > 0 and offset, each a number or, with C = 3, a
                  list of three: the net's input is pixel * scale + offset; scale_from graph | told | masks | assumed;
                  intensity: images and series, each how stored values become pixels: "bit-depth" | "slice-min-max" |
                  "z-score" | {percentiles [p, q]} | {window [centre, width]}, defined in inference/preprocess.py;
                  channels: null | a name for each of the C channels
    output        shape [1, h, w, K], of a model of volumes [1, D, h, w, K]; dtype; activation sigmoid (K labels, each
                  a lesion by itself; where several reach the threshold, the last of them is the pixel's label) |
                  softmax (K labels, the first is the background); labels: K of {name, colour [r, g, b]}, names differ
    classes       only where the model also classifies the whole image: shape [1, N]; activation softmax | sigmoid;
                  labels: N names, the most probable counts; of a single sigmoid two, the first below one half
    threshold     value in (0, 1), exclusive; from: where it comes from
    triage        only where limits of the flags are known, else `empty` and `border` alone are raised: count, of images
                  measured; blank, saturated, largest, margin in [0, 1] and fragments >= 1: the limits of the flags of
                  these names; ranges: {feature: [low, high]}, any of side, aspect, mean, contrast, border, dark,
                  edges, symmetry, colour, of images like those the model was made for. Defined in inference/flags.py
    golden        only where the tail has a golden.json: bytes, sha256 of it. Specified in checks/golden_vectors.py
    recipe        how the weights were stored, by its name in convert
    calibration   null | count, sha256 of the images that set the activation ranges
    source        sha256 of the trained model; versions {package: version} that converted it
    quality       null | n (images), split (which), and any further figures
                  series: null | count, false_ml_max: of series without a lesion, how many, and the most mL marked
    acquisition   null | modality; weighting, contrast yes|no, min_slices: each null where it is not known
    intended_use  one sentence
    allowed       findings of the audit that were explicitly allowed
    digest        sha256 of the canonical JSON of all the other fields

Format edge-seg/1 is read and written as before: it has no acquisition, and its input no intensity, scale_from and
channels. It means intensity bit-depth for images and slice-min-max for series.

Sizes D, H, W, h, w are 1 to 16384. The graph has one input; its outputs are the mask and then, where there is
`classes`, the classes. Integrity is not authenticity: anyone who edits a contract can compute a new digest;
signatures belong to the deployment kit. Standard library only.
"""
