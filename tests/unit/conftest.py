"""Fixtures of the unit tests: nothing here starts Ray."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.exported_models import Pairs


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Give the folder of real data: $UNET_RAY_DATA, or shared/data beside the repository."""
    root = Path(os.environ.get("UNET_RAY_DATA") or Path(__file__).parents[3] / "shared/data")
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set UNET_RAY_DATA")
    return root


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run torch on one thread: the tensors of these tests are too small to share, and results repeat to the bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the pairs that `helpers.datasets` draws; leave it as it is."""
    from tests.unit.tiny_dataset import draw_pairs  # imports Ray, which most tests can do without

    root = tmp_path_factory.mktemp("pairs")
    draw_pairs(root)
    return root


@pytest.fixture(scope="session")
def dataset_uri(pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the URI of the dataset prepared from these pairs; leave it as it is."""
    from tests.unit.tiny_dataset import list_pairs_of, prepare_here

    uri = f"{tmp_path_factory.mktemp('prepared')}/dataset"
    prepare_here(uri, list_pairs_of(pairs_folder))
    return uri


@pytest.fixture(scope="session")
def exported_models(tmp_path_factory: pytest.TempPathFactory) -> "Pairs":
    """Give checkpoints and their ONNX files, by name; leave them as they are."""
    from tests.unit.exported_models import Pairs  # imports torch, which most tests can do without

    return Pairs(tmp_path_factory.mktemp("exported"))
