"""Numbers that nobody should type: one sentence that names the option, and exit code 2."""

import pytest

from adae_edge.cli.shared import bytes_of, numbers_of, region_of, seconds_of
from adae_edge.cli.station import check_parts, read_station
from adae_edge.decoding.images import frame_size
from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime import Scorer
from adae_edge.runtime.resuming import Resuming
from adae_edge.runtime.sinks.registry import open_sink, place_of
from adae_edge.runtime.sinks.sink import Keeping
from adae_edge.runtime.sources.registry import open_source
from tests.support.models import mean_model

ENDLESS = "9" * 5000  # more digits than Python turns into a number


@pytest.mark.parametrize(
    "read",
    [
        lambda: numbers_of(ENDLESS, "--batch"),
        lambda: numbers_of("1,,2", "--batch"),
        lambda: numbers_of("-1", "--batch"),
        lambda: region_of(f"0,0,{ENDLESS},1"),
        lambda: seconds_of(f"{ENDLESS}s", "--max-latency"),
        lambda: seconds_of("99999999999s", "--max-latency"),  # longer than a lock can wait
        lambda: seconds_of("nans", "--max-latency"),
        lambda: seconds_of("-1s", "--max-latency"),
        lambda: bytes_of(f"{ENDLESS}MB", "--rotate"),
        lambda: bytes_of("0MB", "--rotate"),
        lambda: frame_size(f"{ENDLESS}x1"),
        lambda: frame_size("0x0"),
        lambda: open_source(f"camera:{ENDLESS}"),
        lambda: open_source("camera:9999999999"),
        lambda: open_source("frames\0.png"),
        lambda: open_source(ENDLESS),
    ],
)
def test_a_number_that_is_none_is_wrong_use(read):
    with pytest.raises(UsageError):
        read()


@pytest.mark.parametrize("name", [f"https://127.0.0.1:1/{'t' * 300}", f"jsonl:{'n' * 300}"])
def test_a_part_that_is_too_long_for_a_file_is_no_reason_to_fail_but_for_a_file(name):
    assert place_of(name)
    if "://" in name:
        open_source(name).close()
    else:
        with pytest.raises(SinkError, match="too long"):
            open_sink(name)


def test_the_name_of_no_device_is_no_device(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    with pytest.raises(UsageError, match="there is no device"):
        Scorer(tmp_path / "m.onnx", device="")


def test_a_damaged_number_of_a_kept_row_is_no_reason_to_fail(tmp_path):
    rows = tmp_path / "rows.csv"
    open_sink(str(rows)).close()
    with rows.open("a") as file:
        file.write(f"frame.png,{ENDLESS},,,,1,100.0,normal,,abc,,,,,,\n")
    with open_sink(str(rows), Keeping(resume=True)) as sink:
        resuming = Resuming("abc", 100.0)
        resuming.rest(sink)
    assert not resuming.done("frame.png", 0)


@pytest.mark.parametrize(
    "line", [f"threads = {ENDLESS}", f"to = {'[' * 9999}", 'device = ""', 'device = "\\u0000"']
)
def test_a_station_with_such_values_is_refused_by_its_name(tmp_path, line):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    station = tmp_path / "station.toml"
    model = f"[[stream]]\nmodel = '{tmp_path / 'm.onnx'}'\nsource = 'synthetic://?frames=1'\n"
    station.write_text("\ufeff" + model)  # as Notepad begins a file
    check_parts(station, read_station(station))
    station.write_text(model + line)
    with pytest.raises(UsageError, match=r"station\.toml"):
        check_parts(station, read_station(station))
