import pytest
import torch
from torch import nn

from tests.unit.tiny_training import CARD, Training
from unet_ray.train.average import Average

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone().double() for parameter in model.parameters()]


def test_the_average_weighs_every_step_by_its_age_and_the_initial_weights_by_nothing() -> None:
    training, decay, seen = Training(), 0.9, []
    average = Average(training.model, decay)
    for _ in range(5):
        training.step()
        average.update()
        seen.append(weights(training.model))
    shares = [decay**age for age in range(4, -1, -1)]
    for number, found in enumerate(average.current().parameters()):
        mean = sum(share * step[number] for share, step in zip(shares, seen, strict=True)) / sum(shares)
        torch.testing.assert_close(found.double(), mean, rtol=1e-5, atol=1e-7)


def test_before_the_first_step_the_average_is_the_initial_network_and_after_it_the_trained_one() -> None:
    training = Training()
    average = Average(training.model, 0.99)
    initial = weights(training.model)
    assert all(torch.equal(one, two) for one, two in zip(weights(average.current()), initial, strict=True))
    training.step()
    assert all(torch.equal(one, two) for one, two in zip(weights(average.current()), initial, strict=True))
    average.update()
    for one, two in zip(average.current().parameters(), training.model.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_batch_norm_statistics_are_copied_and_training_goes_on_with_its_own_weights() -> None:
    training, alone = Training(), Training()
    average = Average(training.model, 0.5)
    for _ in range(3):
        training.step()
        average.update()
        alone.step()
    current = average.current()
    for (name, found), wanted in zip(current.named_buffers(), training.model.buffers(), strict=True):
        assert torch.equal(found, wanted), name
    for one, two in zip(training.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not any(torch.equal(a, b) for a, b in zip(current.parameters(), training.model.parameters(), strict=True))


def test_a_restored_average_goes_on_to_the_bit() -> None:
    training = Training()
    average = Average(training.model, 0.9)
    for _ in range(3):
        training.step()
        average.update()
    resumed = Average(training.model, 0.9)
    resumed.restore(average.current().state_dict(), 3)
    training.step()
    for one in (average, resumed):
        one.update()
    for found, wanted in zip(resumed.current().parameters(), average.current().parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_the_average_keeps_the_memory_order_of_the_network() -> None:
    average = Average(CARD.build().to(memory_format=torch.channels_last), 0.9)
    kernel = next(iter(average.current().parameters()))
    assert kernel.is_contiguous(memory_format=torch.channels_last)
