"""What `add_folder` makes of folders: all rows, and the summary."""

from typing import Any

from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing, Row


def list_folder(images_uri: str, masks_uri: str | None, **how: Any) -> tuple[list[Row], dict[str, Any]]:
    with Listing() as listing:
        add_folder(listing, images_uri, masks_uri, **how)
        return list(listing.rows()), listing.summary()
