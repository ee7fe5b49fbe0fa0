"""Devices by name, and the numbers that torchrun gives to a process."""

import pytest
import torch

from dimofs.cli import InputError
from dimofs.zoo import devices
from dimofs.zoo.devices import pick_device, rank_and_world


def test_the_default_is_a_gpu_if_there_is_one(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(None) == torch.device("cpu")
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda size, device: asked.append(device) or torch.zeros(size))
    pick_device(None)
    monkeypatch.setenv("LOCAL_RANK", "3")
    pick_device(None)
    assert asked == ["cuda:0", "cuda:3"]


@pytest.mark.parametrize(
    "name", ["banana", "", "cuda:-1", "cuda:1e3", "cuda:²", "cpu\n", "c\0pu", "meta", "mkldnn", "hpu", "x" * 5000]
)
def test_unknown_devices_are_told_in_one_line(name):
    with pytest.raises(InputError, match="not a device; give cpu, cuda") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["cuda:99", "cuda:9999"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(InputError, match=f"device {name}: not available") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


def test_rank_and_world(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert rank_and_world() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert rank_and_world() == (2, 4)


@pytest.mark.parametrize(
    ("rank", "world"), [("x", "2"), ("-1", "2"), ("0", "0"), ("2", "2"), ("0", "1e9"), ("²", "3"), ("", "1"), ("0", "")]
)
def test_odd_ranks_are_told_in_one_line(monkeypatch, rank, world):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(InputError, match=r"RANK|WORLD_SIZE"):
        rank_and_world()


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bfloat16_where_the_cpu_is_faster_with_it(monkeypatch, fast):
    monkeypatch.setattr(devices, "_bfloat16_is_fast", lambda: fast)
    assert devices.dtype_named("auto", torch.device("cpu")) == (torch.bfloat16 if fast else torch.float32)
    assert devices.dtype_named("auto", torch.device("meta")) == torch.float32
    assert devices.dtype_named("fp16", torch.device("cpu")) == torch.float16
    with pytest.raises(InputError, match="not one of float32"):
        devices.dtype_named("int8", torch.device("cpu"))


def test_the_timing_decides_once():
    assert devices._bfloat16_is_fast() is devices._bfloat16_is_fast()
