"""What macOS's programs print, as it was recorded on several Macs, and what is read from it."""

import pytest

from mlx_server.app.machine import apple
from mlx_server.app.machine.info import apple_gpu
from mlx_server.app.machine.meter import apple_load

SYSCTLS = """\
machdep.cpu.brand_string: Apple M3 Pro
hw.memsize: 19327352832
hw.physicalcpu: 12
hw.nperflevels: 2
hw.perflevel0.physicalcpu: 6
hw.perflevel1.physicalcpu: 6
iogpu.wired_limit_mb: 0
"""

ACCELERATOR = """\
+-o AGXAcceleratorG15X  <class AGXAcceleratorG15X, id 0x1000004f1, registered, matched, active, busy 0 (66 ms), retain 91>
    {
      "model" = "Apple M3 Pro"
      "gpu-core-count" = 14
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=25908838400,\
"Tiler Utilization %"=21,"Renderer Utilization %"=31,"Device Utilization %"=42,"In use system memory"=3221225472}
    }
"""  # noqa: E501 - as it was printed

CLUSTERS = """\
+-o cpu0@0  <class IOPlatformDevice, id 0x100000280, registered, matched, active, busy 0 (98 ms), retain 8>
    {
      "cluster-id" = <00000000>
      "cpu-id" = <00000000>
      "name" = <"cpu0">
      "cluster-type" = <"E">
      "device_type" = <"cpu">
      "compatible" = <"apple,icestorm","ARM,v8">
    }
+-o cpu1@1  <class IOPlatformDevice, id 0x100000281, registered, matched, active, busy 0 (241 ms), retain 8>
    {
      "cluster-type" = <"E">
      "cpu-id" = <01000000>
      "device_type" = <"cpu">
    }
+-o cpu2@100  <class IOPlatformDevice, id 0x100000282, registered, matched, active, busy 0 (240 ms), retain 8>
    {
      "cluster-type" = <"P">
      "cpu-id" = <02000000>
      "device_type" = <"cpu">
    }
"""


def test_sysctls_are_read_by_name() -> None:
    values = apple.parse_sysctls(SYSCTLS)
    assert values["machdep.cpu.brand_string"] == "Apple M3 Pro"
    assert apple.number(values, "hw.perflevel0.physicalcpu") == 6
    assert apple.number(values, "hw.perflevel2.physicalcpu") is None
    assert apple.parse_sysctls("sysctl: unknown oid 'hw.nonsense'\n") == {}


@pytest.mark.parametrize(
    ("brand", "chip"),
    [
        ("Apple M1", apple.Chip("M1", None)),
        ("Apple M3 Pro", apple.Chip("M3 Pro", "Pro")),
        ("Apple M2 Ultra", apple.Chip("M2 Ultra", "Ultra")),
        ("Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", None),
        ("", None),
    ],
)
def test_chip_is_named_as_apple_names_it(brand: str, chip: apple.Chip | None) -> None:
    assert apple.chip_of(brand) == chip


def test_wired_limit_is_known_only_where_it_was_set() -> None:
    assert apple.wired_limit_bytes(apple.parse_sysctls(SYSCTLS)) is None
    assert apple.wired_limit_bytes({"iogpu.wired_limit_mb": "14336"}) == 14336 << 20
    assert apple.wired_limit_bytes({}) is None


def test_graphics_processor_is_read_from_ioreg() -> None:
    found = apple.parse_accelerator(ACCELERATOR)
    assert found == apple.Accelerator("Apple M3 Pro", 14, 42.0, 3221225472)
    assert apple.parse_accelerator("") is None


def test_graphics_processor_that_tells_nothing_has_nothing() -> None:
    assert apple.parse_accelerator("+-o IntelAccelerator  <class IntelAccelerator>\n    {\n    }\n") == (
        apple.Accelerator(None, None, None, None)
    )


def test_mac_has_a_metal_processor_with_the_machines_memory() -> None:
    values = apple.parse_sysctls(SYSCTLS)
    gpu = apple_gpu("Apple M3 Pro", values, apple.parse_accelerator(ACCELERATOR))
    assert (gpu.name, gpu.vendor, gpu.memory_gb, gpu.compute_units) == ("Apple M3 Pro", "Apple", 18.0, 14)
    assert gpu.metal_support
    assert gpu.unified_memory
    limited = apple_gpu("Apple M3 Pro", {**values, "iogpu.wired_limit_mb": "12288"}, None)
    assert (limited.memory_gb, limited.compute_units) == (12.0, None)
    intel = apple_gpu("Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", values, None)
    assert (intel.name, intel.vendor, intel.memory_gb, intel.metal_support) == (None, None, None, False)


def test_load_of_a_mac_is_measured_against_the_machines_memory() -> None:
    found = apple.parse_accelerator(ACCELERATOR)
    assert found is not None
    load = apple_load(found, 18.0 * 1024)
    assert (load.gpu_utilization_percent, load.memory_used_mb, load.memory_total_mb) == (42.0, 3072.0, 18432.0)
    assert load.memory_usage_percent == 16.7
    assert load.compute_units_active is None
    unknown = apple_load(apple.Accelerator(None, None, None, None), 1024.0)
    assert (unknown.gpu_utilization_percent, unknown.memory_used_mb, unknown.memory_usage_percent) == (None,) * 3


def test_cores_are_told_apart_by_their_clusters() -> None:
    assert apple.parse_core_kinds(CLUSTERS) == ([2], [0, 1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        CLUSTERS.replace('"cpu-id" = <01000000>', '"cpu-id" = <00000000>'),
        CLUSTERS.replace('"cluster-type" = <"P">', '"cluster-type" = <"X">'),
    ],
    ids=["an Intel Mac", "a core twice", "a third kind"],
)
def test_cores_that_are_not_told_apart_wholly_are_not_told_apart(text: str) -> None:
    assert apple.parse_core_kinds(text) is None


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("com.apple.system.thermalpressurelevel 0\n", "nominal"),
        ("com.apple.system.thermalpressurelevel 2\n", "heavy"),
        ("com.apple.system.thermalpressurelevel 9\n", None),
        ("", None),
    ],
)
def test_heat_is_rated_by_the_system(text: str, state: str | None) -> None:
    assert apple.parse_thermal_level(text) == state
