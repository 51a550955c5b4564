"""Keys and signatures: the verifier is RFC 8032's, agrees with `cryptography` and OpenSSL, and secrets stay secret."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from deploy.kit.ed25519 import BASE, ORDER, PRIME, add, check_signature, decode_point, encode_point, multiply
from deploy.kit.keys import PUBLIC_PREFIX, find_fingerprint, make_keys, read_public_key, sign, to_pem
from edge_runtime.errors import OutputError, UsageError

# RFC 8032, section 7.1: public key, message, signature of TEST 1, 2, 3, and SHA(abc).
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
        "55141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb"
        "00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc"
        "027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2"
        "a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad"
        "9bef1177331a704",
    ),
]


@pytest.mark.parametrize("case", VECTORS, ids=["empty", "one byte", "two bytes", "SHA(abc)"])
def test_the_rfcs_vectors_hold(case: tuple[str, str, str]) -> None:
    """The signatures that RFC 8032 prints are valid, and invalid with one bit flipped."""
    key, message, signature = map(bytes.fromhex, case)
    assert check_signature(key, message, signature)
    for bit in range(0, 512, 37):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not check_signature(key, message, bytes(changed))
    assert not check_signature(key, message + b"x", signature)
    assert not check_signature(VECTORS[0][0].encode()[:32], message, signature)


def test_it_agrees_with_cryptography(key: Path, public: bytes, rng: np.random.Generator) -> None:
    """What `cryptography` signs verifies here, and what `cryptography` refuses is refused here."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    theirs = Ed25519PublicKey.from_public_bytes(public)
    for length in (0, 1, 63, 64, 1000):
        message = rng.bytes(length)
        signature, half = sign(key, message)
        assert half == public and check_signature(public, message, signature)
        theirs.verify(signature, message)
        wrong = bytearray(signature)
        wrong[int(rng.integers(64))] ^= 1 << int(rng.integers(8))
        with pytest.raises(InvalidSignature):
            theirs.verify(bytes(wrong), message)
        assert not check_signature(public, message, bytes(wrong))


def test_a_signature_has_one_form(key: Path, public: bytes) -> None:
    """S + L is the same number to the equation and is refused, as RFC 8032 asks, so that no kit has two signatures."""
    signature, _ = sign(key, b"kit")
    scale = int.from_bytes(signature[32:], "little") + ORDER
    assert not check_signature(public, b"kit", signature[:32] + scale.to_bytes(32, "little"))
    assert not check_signature(public, b"kit", signature[:63])
    assert not check_signature(public[:31], b"kit", signature)


@pytest.mark.parametrize(
    "y", [1, PRIME - 1, 0, PRIME + 1, 2], ids=["neutral", "order 2", "order 4", "too large", "off"]
)
def test_keys_that_sign_anything_are_refused(y: int) -> None:
    """A key of small order, or no point at all, verifies nothing: not even the empty signature that would fit it."""
    weak = y.to_bytes(32, "little")
    assert not check_signature(weak, b"anything", encode_point((0, 1, 1, 0)) + bytes(32))


def test_points_are_a_group() -> None:
    """The order's multiple of the base is neutral, and decoding undoes encoding."""
    assert encode_point(multiply(ORDER, BASE)) == encode_point((0, 1, 1, 0))
    seven = multiply(7, BASE)
    assert encode_point(add(multiply(3, BASE), multiply(4, BASE))) == encode_point(seven)
    decoded = decode_point(encode_point(seven))
    assert decoded is not None and encode_point(decoded) == encode_point(seven)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_openssl_reads_the_files(key: Path, tmp_path: Path) -> None:
    """OpenSSL's command line verifies a signature with the .pub file as it is."""
    (tmp_path / "m").write_bytes(b"manifest")
    (tmp_path / "s").write_bytes(sign(key, b"manifest")[0])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{key}.pub", "-rawin", "-in", "m", "-sigfile", "s"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "m").write_bytes(b"manifesT")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0


def test_the_secret_is_for_its_owner(key: Path, tmp_path: Path) -> None:
    """The secret half has mode 600, is never overwritten, and is not used while others may read it."""
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OutputError, match="never overwritten"):
        make_keys(key)
    copy = tmp_path / "open"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o644)
    with pytest.raises(UsageError, match=f"chmod 600 {copy}"):
        sign(copy, b"")


def test_a_wrong_file_is_named(key: Path, tmp_path: Path) -> None:
    """The other half, an RSA key, an empty file and a missing one each get a line that says what to do."""
    with pytest.raises(UsageError, match=r"it is the private half; give the \.pub file"):
        read_public_key(key)
    with pytest.raises(UsageError, match=r"it is the public half; give the file without \.pub"):
        sign(key.with_name("vendor.pub"), b"")
    (tmp_path / "rsa").write_bytes(to_pem("PUBLIC KEY", b"\x30" + bytes(270)))
    (tmp_path / "short").write_bytes(to_pem("PUBLIC KEY", PUBLIC_PREFIX + bytes(31)))
    (tmp_path / "empty").touch()
    for name in ("rsa", "short", "empty", "missing"):
        with pytest.raises(UsageError, match=name):
            read_public_key(tmp_path / name)


def test_a_key_has_a_short_name(public: bytes) -> None:
    """Sixteen hexadecimal digits that differ from key to key."""
    assert len(find_fingerprint(public)) == 16 and find_fingerprint(public) != find_fingerprint(bytes(32))
