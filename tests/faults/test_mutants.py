"""Thousands of mutated files: pixels or an `ImageError`, never a crash."""

import os
import subprocess
import sys
from pathlib import Path

NUMBER = 2400

# A process of its own, so that a decoder that dies is a failed test and not the end of all tests. A mutant is some
# flipped bytes, a cut, a piece of itself repeated or a piece of another file put in.
MUTATE = """
import random, sys
from tests.faults.test_damage import WHOLE
from unet_ray.config_input import ImagesSection
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask

chance, files = random.Random(7), list(WHOLE.values())

def flip(data):
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))

def cut(data):
    del data[chance.randrange(len(data)) :]

def splice(data):
    other = chance.choice((bytes(data), chance.choice(files)))
    start = chance.randrange(len(other))
    piece, place = other[start : start + chance.randint(1, 400)], chance.randrange(len(data))
    data[place : place + chance.choice((0, len(piece)))] = piece

def drop(data):
    start = chance.randrange(len(data))
    del data[start : start + chance.randint(1, 40)]

pixels = refused = 0
policies = [ImagesSection(), ImagesSection(frames="first", alpha=(1, 2, 3))]
for number in range(int(sys.argv[1])):
    data = bytearray(files[number % len(files)])
    chance.choice((flip, flip, cut, splice, drop))(data)
    for decode in (decode_image, decode_mask):
        try:
            found = decode(bytes(data), chance.choice(policies))
        except ImageError as error:
            assert error.code and error.message.isprintable(), repr(error)
            refused += 1
        else:
            assert (found if decode is decode_mask else found[0]).size
            pixels += 1
print(pixels, refused)
"""


def test_a_mutated_file_gives_pixels_or_an_image_error_and_never_a_crash() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", MUTATE, str(NUMBER)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    pixels, refused = map(int, done.stdout.split())
    assert pixels + refused == 2 * NUMBER
    assert pixels > NUMBER / 10
    assert refused > NUMBER / 2
