import inspect
import pickle
import re

import pytest

from unet_ray import errors
from unet_ray.errors import ImageError, UnetRayError


def all_errors() -> list[type[UnetRayError]]:
    found, queue = [], [UnetRayError]
    while queue:
        found.append(queue.pop())
        queue += found[-1].__subclasses__()
    return [error for error in found if error.__module__ == errors.__name__]


def test_the_tree_in_the_module_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^    (.*?)([A-Z]\w+Error) ", inspect.getdoc(errors) or "", re.MULTILINE)
    depths = {name: len(line) // 4 for line, name in drawn}
    assert depths == {error.__name__: len(error.__mro__) - len(UnetRayError.__mro__) for error in all_errors()}


@pytest.mark.parametrize("error", all_errors())
def test_an_error_comes_back_from_a_worker_as_it_was_raised(error: type[UnetRayError]) -> None:
    raised = error("truncated", "it ends") if error is ImageError else error("data.root: must be there")
    copy = pickle.loads(pickle.dumps(raised))
    assert type(copy) is error
    assert str(copy) == str(raised)
    assert vars(copy) == vars(raised)


def test_an_image_error_reads_as_its_code_and_message() -> None:
    error = ImageError("truncated", "the JPEG ends after 7 bytes")
    assert (error.code, error.message) == ("truncated", "the JPEG ends after 7 bytes")
    assert str(error) == "truncated: the JPEG ends after 7 bytes"
