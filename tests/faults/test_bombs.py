"""No file makes a decode worker allocate much, or keeps it busy for long."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.bombs import make_bombs, make_duds

MOST_FOR_FILES_MB = 100  # beside what is imported, which differs by tens from machine to machine
SLOWEST_S = 10.0

# Imports what a decode task imports and reads every file, both as an image and as a mask. The high-water mark is the
# kernel's: the one of getrusage starts at the size of the process that forked this one.
WORKER = """
import json, sys, time
from pathlib import Path
from unet_ray.config_input import ImagesSection
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask
import unet_ray.prepare

def resident_mb():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

found = {"imports": resident_mb(), "files": {}}
for path in sorted(Path(sys.argv[1]).iterdir()):
    data, codes, started = path.read_bytes(), [], time.monotonic()
    for decode in (decode_image, decode_mask):
        try:
            decode(data, ImagesSection())
            codes.append(None)
        except ImageError as error:
            codes.append(error.code)
    found["files"][path.name] = [*codes, time.monotonic() - started]
print(json.dumps(found | {"peak": resident_mb()}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the high-water mark is read from /proc")
def test_a_worker_stays_small_while_it_refuses_every_bomb_at_once(tmp_path: Path) -> None:
    bombs, duds = make_bombs(), make_duds()
    for name, data in duds.items() | {(name, data) for name, (data, _) in bombs.items()}:
        (tmp_path / name).write_bytes(data)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (image, mask, seconds) in found["files"].items():
        expected = bombs[name][1] if name in bombs else None
        assert image == expected, name
        assert mask == ("lossy_mask" if name == "exif.jpg" else expected), name
        assert seconds < SLOWEST_S, (name, seconds)
    assert len(found["files"]) == len(bombs) + len(duds)
    assert found["peak"] - found["imports"] < MOST_FOR_FILES_MB, found
