"""TFRecord files, read without TensorFlow: records of bytes, each after its length and before a checksum."""

import struct
from collections.abc import Iterator
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reflected


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_entry(byte) for byte in range(256)]


def masked(data: bytes) -> int:
    """The checksum of TFRecord: CRC-32C, rotated and shifted."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read(path: Path) -> Iterator[bytes]:
    """The records of a file, in order. The checksums of lengths are looked at, not those of contents: in Python that
    would take longer than all else.

    Raises:
        ValueError: it is truncated or damaged.
        OSError: it cannot be read.
    """
    data = memoryview(path.read_bytes())
    at = 0
    while at < len(data):
        if at + 16 > len(data):
            raise ValueError(f"{path.name} is truncated at byte {at}")
        length, check = struct.unpack_from("<QI", data, at)
        if masked(bytes(data[at : at + 8])) != check:
            raise ValueError(f"{path.name} is damaged at byte {at}")
        if at + 16 + length > len(data):
            raise ValueError(f"{path.name} is truncated at byte {at}")
        yield bytes(data[at + 12 : at + 12 + length])
        at += 16 + length
