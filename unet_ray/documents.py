"""JSON documents that carry their own hash, so that no changed byte in them goes unnoticed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from unet_ray.errors import UnetRayError

_HASH = "sha256"


def pack_document(document: Mapping[str, Any]) -> bytes:
    """Return JSON values as the bytes of a file, with their hash among them; equal values give equal bytes.

    Args:
        document: JSON values by name; ``sha256`` is taken.
    """
    sha256 = hashlib.sha256(_encode(document)).hexdigest()
    return _encode({**document, _HASH: sha256})


def unpack_document(data: bytes, uri: str, damaged: type[UnetRayError]) -> dict[str, Any]:
    """Return what `pack_document` packed, as JSON gives it back: lists, not tuples.

    Args:
        data: The content of the file.
        uri: Where it lies, for the message.
        damaged: The error to raise.

    Raises:
        UnetRayError: Of class ``damaged``: the file is no such document, or a byte of it has changed.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise damaged(f"{uri}: not valid JSON: {error}; restore the file or begin again at another place") from None
    if not isinstance(document, dict) or _HASH not in document:
        raise damaged(f"{uri}: not a file of this unet-ray; check the URI")
    del document[_HASH]
    if pack_document(document) != data:
        raise damaged(f"{uri}: the file changed after it was written (sha256 differs); restore it")
    return document


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False).encode()
