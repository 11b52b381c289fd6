"""Training batches on their way from the data tasks to the device.

Shapes: B batch, C channels, H W pixels, N all pixels.
"""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor


def load_batch(rows: pa.Table, crop: tuple[int, int], device: torch.device, margin: int = 0) -> tuple[Tensor, Tensor]:
    """Bring crops (`feed.CROPS`) to the device, apply colour and normalisation there.

    Returns:
        ``(B, 3, H + 2 * margin, W + 2 * margin)`` float32 in channels-last memory, and ``(B, H, W)`` int64 class ids.
    """
    height, width = crop
    pixels = np.stack([np.frombuffer(cell.as_buffer(), np.uint8) for cell in rows["image"]])
    ids = np.stack([np.frombuffer(cell.as_buffer(), np.uint8) for cell in rows["mask"]])
    colour = np.stack([np.frombuffer(cell.as_buffer(), np.float32) for cell in rows["colour"]])
    rgb_BNC = torch.from_numpy(pixels.reshape(len(rows), -1, 3)).to(device, non_blocking=True).float()
    colour_B34 = torch.from_numpy(colour.reshape(-1, 3, 4)).to(device, non_blocking=True)
    image_BNC = torch.baddbmm(colour_B34[:, None, :, 3], rgb_BNC, colour_B34[:, :, :3].mT)
    mask_BHW = torch.from_numpy(ids.reshape(len(rows), height, width)).to(device, non_blocking=True).long()
    image_BHWC = image_BNC.view(len(rows), height + 2 * margin, width + 2 * margin, 3)
    return image_BHWC.permute(0, 3, 1, 2), mask_BHW


def load_border(rows: pa.Table, crop: tuple[int, int], device: torch.device) -> Tensor | None:
    """Bring the border weights of crops (`feed.CROPS`) to the device: ``(B, H, W)`` float32, None if there are none."""
    if rows["border"].null_count:
        return None
    weights = np.stack([np.frombuffer(cell.as_buffer(), np.float16) for cell in rows["border"]])
    return torch.from_numpy(weights.reshape(len(rows), *crop)).to(device, non_blocking=True).float()
