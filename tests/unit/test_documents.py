import json

import pytest

from unet_ray.documents import pack_document, unpack_document
from unet_ray.errors import CheckpointError, TableError

DOCUMENT = {"name": "r\u00e4d", "sums": [2**62, -1], "inner": {"b": None, "a": 0.1}, "tuple": (1, 2)}


def test_a_document_comes_back_as_json_gives_it() -> None:
    assert unpack_document(pack_document(DOCUMENT), "here", TableError) == json.loads(json.dumps(DOCUMENT))


def test_equal_values_give_equal_bytes_whatever_their_order() -> None:
    assert pack_document(DOCUMENT) == pack_document(dict(reversed(DOCUMENT.items())))


def test_every_flipped_bit_is_noticed() -> None:
    data = pack_document(DOCUMENT)
    for place in range(len(data)):
        for bit in range(8):
            damaged = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            with pytest.raises(CheckpointError, match=r"^s3://b/k: "):
                unpack_document(damaged, "s3://b/k", CheckpointError)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"{}", b"\xff", pack_document(DOCUMENT)[:-1]])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(TableError, match=r"^here: "):
        unpack_document(data, "here", TableError)
