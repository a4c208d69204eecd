"""Unpacks an answer piece by piece, and counts its size while it grows.

1.8 KB of gzip within gzip unpack to 2 GiB, so nothing is unpacked first and counted afterwards: zlib is never
asked for more than what is left of the limit.
"""

import zlib
from typing import Protocol

OFFERED = ("gzip", "deflate")
"""What requests offer. zstd, br and encodings on top of one another are refused: nobody asked for them."""
_GZIP_START = b"\x1f\x8b"
_MOST_MEMBERS = 1000
"""A gzip stream may be several, one after the other. Empty ones cost 20 bytes each and a new decompressor."""


class Undecodable(ValueError):
    """The body is not what its `Content-Encoding` says, or that is none we offered."""


class TooLarge(ValueError):
    """The body is larger than its limit once it is unpacked."""


class Decoder(Protocol):
    """Takes a body piece by piece."""

    def feed(self, piece: bytes) -> bytes:
        """Unpack one more piece.

        Raises:
            Undecodable: it is not what the header says.
            TooLarge: there is more than the limit by now.
        """

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            Undecodable: its compression has not ended yet.
        """


def decoder_of(content_encoding: str, limit: int) -> Decoder:
    """The decoder for a `Content-Encoding`, with at most `limit` bytes of output.

    Raises:
        Undecodable: it is none of those offered, or several on top of one another.
    """
    named = [name for part in content_encoding.lower().split(",") if (name := part.strip())]
    layers = [name.removeprefix("x-") for name in named if name != "identity"]
    if not layers:
        return _Plain(limit)
    if len(layers) > 1:
        raise Undecodable(f"it is compressed {len(layers)} times over")
    if layers[0] not in OFFERED:
        raise Undecodable(f"it is compressed as {layers[0][:20]!r}, and only gzip and deflate were offered")
    return _Inflate(layers[0], limit)


class _Plain:
    """No compression."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def feed(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        if self._left < 0:
            raise TooLarge
        return piece

    def finish(self) -> None:
        """Nothing can be missing."""


class _Inflate:
    """gzip with all its members, or deflate with or without zlib's header."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._left = limit
        self._unread = b""
        self._members = 0
        self._unzip: zlib._Decompress | None = None
        self._ended = False

    def feed(self, piece: bytes) -> bytes:
        unpacked = []
        data = self._unread + piece
        self._unread = b""
        while data and not self._ended:
            if self._unzip is None:
                if len(data) < 2:
                    # Two bytes tell which of its kinds it is.
                    self._unread = data
                    break
                self._unzip = self._begun(data)
            try:
                unpacked.append(self._unzip.decompress(data, self._left + 1))
            except zlib.error as error:
                raise Undecodable(f"it is no {self._name}") from error
            self._left -= len(unpacked[-1])
            if self._left < 0:
                raise TooLarge
            data = self._rest()
        return b"".join(unpacked)

    def finish(self) -> None:
        if self._unread or (self._unzip is not None and not self._unzip.eof):
            raise Undecodable(f"its {self._name} is cut off")

    def _begun(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise Undecodable(f"it is more than {_MOST_MEMBERS} times {self._name}")
        if self._name == "gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        zlib_header = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.decompressobj(wbits=zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)

    def _rest(self) -> bytes:
        """What follows the end of a member: another one, or padding, which is left alone."""
        assert self._unzip is not None  # noqa: S101 -- something was just fed to it
        if not self._unzip.eof:
            return b""
        rest = self._unzip.unused_data
        if self._name == "gzip" and (not rest or rest[:2] == _GZIP_START or rest == _GZIP_START[:1]):
            if rest:
                self._unzip = None
            return rest
        self._ended = True
        return b""
