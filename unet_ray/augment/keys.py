"""Random numbers from a key, not from a state: they do not depend on workers, order or resumption."""

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Rngs: TypeAlias = Callable[[str], np.random.Generator]
"""The random numbers of one pair in one epoch: `make_rng` that waits for the name of a stream."""


def make_rng(seed: int, epoch: int, image_id: str, stream: str = "") -> np.random.Generator:
    """Return random numbers of one pair in one epoch.

    The stream without a name places the crop and colours it. Every other option has a stream of its own, named after
    it (at most 16 bytes), so that switching one on changes no number that another draws.
    """
    key = f"{seed}/{epoch}/{image_id}".encode()
    digest = hashlib.blake2b(key, digest_size=16, person=stream.encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))


def roll(rngs: Rngs, option: str, probability: float) -> np.random.Generator | None:
    """Return the stream of an option where chance has it happen to this pair, None where it has not."""
    if probability == 0:
        return None
    rng = rngs(option)
    return rng if rng.random() < probability else None
