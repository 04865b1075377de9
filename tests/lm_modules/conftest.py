"""What every test of lm_modules gets."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded_generator():
    """The global generator starts alike in each test, and stays as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
