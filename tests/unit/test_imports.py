import subprocess
import sys
from pathlib import Path

BLOCKED = ("ray", "s3fs", "obstore")


def run(script: str, *arguments: str) -> str:
    """Run a script in a process that cannot import what is `BLOCKED`; return what it prints."""
    blocker = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocker())
"""
    command = [sys.executable, "-c", blocker + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tables_and_training_steps_need_neither_ray_nor_the_clients_of_a_store(tmp_path: Path) -> None:
    """Nor does what segments and counts frames need augmentation: evaluation has no path to it."""
    script = """
from unet_ray import storage
from unet_ray.table import commit, parts, plan, publish, read, seals, verify
storage.create(f"{sys.argv[1]}/seal.json", b"seal")
print(publish.storage.read_bytes(f"{sys.argv[1]}/seal.json"), "torch" in sys.modules)

import numpy as np, torch
import unet_ray.history, unet_ray.model
import unet_ray.model.segmenter, unet_ray.predict.network
from unet_ray import checkpoint, metrics
print([name for name in sys.modules if name.startswith("unet_ray.augment")])
from unet_ray.augment.keys import make_rng
from unet_ray.augment.pair import augment_pair
from unet_ray.config_training import AugmentSection, LossSection
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.model.segmenter import Segmenter
from unet_ray.model.unet import UNet
torch.set_num_threads(1)
section = AugmentSection(elastic=1, perspective=0.1, blur=1, noise=1, sharpen=1, jpeg=1, cutout=1, balance=1)
pair = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)
image, mask, _ = augment_pair(*pair, section, lambda stream: make_rng(0, 1, "a", stream), (8, 8))
model = UNet(num_classes=2, width=2, depth=1)
logits = model(torch.from_numpy(image).permute(2, 0, 1)[None].float())
loss = SegmentationLoss(LossSection(lovasz=1), torch.ones(2))
loss(logits, torch.from_numpy(mask)[None].long()).backward()
(found,) = Segmenter(model, (1, 1, 1), (1, 1, 1), torch.device("cpu"), "fp32").segment([image])
pred_mask = found.mask
print(metrics.count_confusion(mask, pred_mask, 2).shape, checkpoint.list_checkpoints(sys.argv[1]))
"""
    assert run(script, str(tmp_path)) == "b'seal' False\n[]\n(2, 2) []\n"


def test_importing_the_package_imports_nothing() -> None:
    assert run("before = set(sys.modules); import unet_ray; print(set(sys.modules) - before)") == "{'unet_ray'}\n"
