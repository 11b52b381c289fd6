import pytest

from unet_ray import storage
from unet_ray.datasets.inputs import add_folder, add_list
from unet_ray.datasets.listing import Listing
from unet_ray.errors import DatasetError

NAMES = [f"{number}.png" for number in range(1200)]


def test_a_list_in_a_store_is_read_relative_to_its_folder(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/lists/pairs.csv"
    storage.create(uri, ("image,mask\n" + "".join(f"a/{name},m/{name}\n" for name in NAMES)).encode())
    with Listing() as listing:
        add_list(listing, uri)
        rows = [(row["image_uri"], row["mask_uri"]) for row in listing.rows()]
    assert rows == [(f"{s3_bucket}/lists/a/{name}", f"{s3_bucket}/lists/m/{name}") for name in NAMES]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_list_that_is_not_in_the_store_is_named(s3_bucket: str, ending: str) -> None:
    with Listing() as listing, pytest.raises(DatasetError, match=rf"none\.{ending}: no such list; data\.root takes"):
        add_list(listing, f"{s3_bucket}/none.{ending}")


def test_a_prefix_that_holds_nothing_is_refused(s3_bucket: str) -> None:
    with Listing() as listing, pytest.raises(DatasetError, match=r"0 images under .*/images: it holds nothing; PNG,"):
        add_folder(listing, f"{s3_bucket}/images", None)
    with Listing() as listing, pytest.raises(DatasetError, match=r"nowhere: no such folder"):
        add_folder(listing, f"{s3_bucket}-nowhere", None)
