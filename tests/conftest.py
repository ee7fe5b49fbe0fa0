"""Without a GPU the Triton kernels run in Triton's interpreter, chosen before the first kernel is made."""

import os

import pytest
import torch

from tests.support.browser import chromium

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="module")
def one_thread():
    """As in a loader's worker; small tensors gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def driver():
    """A browser for all tests of pages."""
    with chromium() as opened:
        yield opened
