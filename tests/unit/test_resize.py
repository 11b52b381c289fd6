import numpy as np

from unet_ray.images.resize import resize_image, resize_mask


def test_a_shrunk_image_is_the_average_of_its_pixels() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, :4] = (100, 50, 0)
    image[0, 0] = (180, 50, 0)
    small = resize_image(image, 2, 2)
    assert small.dtype == np.uint8
    assert small.tolist() == [[[105, 50, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_a_grown_image_is_interpolated_between_its_pixels() -> None:
    image = np.repeat(np.array([[0, 100]], np.uint8)[:, :, None], 3, axis=2)
    assert resize_image(image, 1, 4)[0, :, 0].tolist() == [0, 25, 75, 100]


def test_a_resized_mask_holds_ids_of_the_mask_and_nothing_between() -> None:
    mask = np.array([[0, 9], [255, 3]], np.uint8)
    assert resize_mask(mask, 4, 6).tolist() == np.kron(mask, np.ones((2, 3), np.uint8)).tolist()
    rng = np.random.default_rng(0)
    ids = rng.choice(np.array([0, 5, 255], np.uint8), size=(31, 17))
    for height, width in ((13, 40), (7, 5), (62, 34)):
        resized = resize_mask(ids, height, width)
        assert resized.shape == (height, width)
        assert set(np.unique(resized)) <= {0, 5, 255}


def test_image_and_mask_stay_in_register() -> None:
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 200
    image = np.repeat(mask[:, :, None], 3, axis=2)
    for height, width in ((30, 45), (41, 77), (120, 180)):
        edge = np.abs(resize_image(image, height, width)[:, :, 0].astype(int) - resize_mask(mask, height, width)) > 100
        assert edge.mean() < 0.02


def test_what_has_the_size_already_is_returned_as_it_is() -> None:
    image, mask = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
    assert resize_image(image, 4, 6) is image
    assert resize_mask(mask, 4, 6) is mask
