"""Records as they are kept in the file: whole, and small."""

CODEC_PLAIN = 0


def pack(text: bytes) -> tuple[int, bytes]:
    """JSON text → the codec's number and the bytes to store."""
    return CODEC_PLAIN, text


def unpack(codec: int, body: bytes) -> bytes:
    """The inverse of `pack`."""
    if codec != CODEC_PLAIN:
        raise ValueError(f"payload codec {codec} is unknown to this program")
    return body
