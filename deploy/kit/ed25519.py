"""Is an Ed25519 signature valid? With Python's integers alone, so that a kit is checked before any of it is run.

Verification only: it handles no secret, so its run time may depend on the data. `cryptography` signs.

Source: RFC 8032, sections 5.1.3 (decoding), 5.1.4 (addition), 5.1.7 (verification, without the cofactor, as OpenSSL).
"""

from __future__ import annotations

import hashlib

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME  # d of -x² + y² = 1 + d x² y²
ROOT = pow(2, (PRIME - 1) // 4, PRIME)  # of -1

Point = tuple[int, int, int, int]  # X, Y, Z, T with x = X/Z, y = Y/Z, x y = T/Z
NEUTRAL: Point = (0, 1, 1, 0)


def check_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether a 64-byte signature of `message` was made with the key whose 32-byte public half is `public`."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, scale = decode_point(public), int.from_bytes(signature[32:], "little")
    if key is None or scale >= ORDER or multiply(8, key)[0] == 0:  # a key of small order verifies any message
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    x, y, z, t = multiply(challenge, key)
    return encode_point(add(multiply(scale, BASE), (-x % PRIME, y, z, -t % PRIME))) == signature[:32]


def add(a: Point, b: Point) -> Point:
    """Return the sum of two points."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % PRIME
    f = (a[1] + a[0]) * (b[1] + b[0]) % PRIME
    g = 2 * a[3] * b[3] * CURVE % PRIME
    h = 2 * a[2] * b[2] % PRIME
    minus, plus, low, high = f - e, f + e, h - g, h + g
    return minus * low % PRIME, high * plus % PRIME, low * high % PRIME, minus * plus % PRIME


def multiply(times: int, point: Point) -> Point:
    """Return `times` × point."""
    total = NEUTRAL
    while times:
        if times & 1:
            total = add(total, point)
        point, times = add(point, point), times >> 1
    return total


def decode_point(data: bytes) -> Point | None:
    """Return the point that 32 bytes encode; None where they encode none, or not in the canonical form."""
    y, sign = int.from_bytes(data, "little") & (2**255 - 1), data[31] >> 7
    if y >= PRIME:
        return None
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT % PRIME
    if (x * x - square) % PRIME or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = PRIME - x
    return x, y, 1, x * y % PRIME


def encode_point(point: Point) -> bytes:
    """Return a point's 32 bytes."""
    inverse = pow(point[2], -1, PRIME)
    x, y = point[0] * inverse % PRIME, point[1] * inverse % PRIME
    return (y | (x & 1) << 255).to_bytes(32, "little")


_BASE = decode_point((4 * pow(5, -1, PRIME) % PRIME).to_bytes(32, "little"))
assert _BASE is not None
BASE: Point = _BASE
