"""What Linux's files and NVIDIA's program say, and what is read from it."""

import pytest

from mlx_server.app.machine import linux, nvidia
from mlx_server.app.machine.info import nvidia_gpu
from mlx_server.app.machine.memory import Memory, within
from mlx_server.workers import cgroup

CPUINFO = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B13
cpu MHz\t\t: 2449.998

processor\t: 1
model name\t: AMD EPYC 7B13
"""


def test_processor_is_named_by_cpuinfo() -> None:
    assert linux.parse_brand(CPUINFO) == "AMD EPYC 7B13"
    assert linux.parse_brand("processor\t: 0\nBogoMIPS\t: 50.00\n") is None


@pytest.mark.parametrize(
    ("text", "cores"), [("0-3,8\n", [0, 1, 2, 3, 8]), ("5\n", [5]), ("", []), ("\n", [])], ids=repr
)
def test_lists_of_cores_are_read(text: str, cores: list[int]) -> None:
    assert linux.parse_cpu_list(text) == cores


def test_memory_of_a_container_is_what_its_limit_leaves() -> None:
    machine = Memory(64 << 30, 10 << 30)
    assert within(machine, None) == machine
    assert within(machine, cgroup.Limit(128 << 30, 0)) == machine
    assert within(machine, cgroup.Limit(8 << 30, 2 << 30)) == Memory(8 << 30, 6 << 30)
    assert within(machine, cgroup.Limit(32 << 30, 1 << 30)) == Memory(32 << 30, 10 << 30)
    assert within(machine, cgroup.Limit(1 << 30, 2 << 30)) == Memory(1 << 30, 0)


def test_cards_are_read_from_nvidias_program() -> None:
    text = "NVIDIA H100 80GB HBM3, 81559, 1234, 87\nNVIDIA GH200, [N/A], [N/A], 3\n"
    assert nvidia.parse_cards(text) == [
        nvidia.Card("NVIDIA H100 80GB HBM3", 81559.0, 1234.0, 87.0),
        nvidia.Card("NVIDIA GH200", None, None, 3.0),
    ]
    assert nvidia.parse_cards("No devices were found\n") == []


def test_card_is_no_metal_processor() -> None:
    gpu = nvidia_gpu(nvidia.parse_cards("NVIDIA H100 80GB HBM3, 81559, 0, 0\n"))
    assert (gpu.name, gpu.vendor, gpu.memory_gb) == ("NVIDIA H100 80GB HBM3", "NVIDIA", 79.65)
    assert not gpu.metal_support
    assert nvidia_gpu([]).name is None
