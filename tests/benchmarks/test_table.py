"""The page of benchmarks follows from the committed results alone."""

import dataclasses
import json
from pathlib import Path

import pytest

from adae_edge.benchmarks import bench, table
from adae_edge.benchmarks.markdown import as_markdown
from adae_edge.contract import Form
from adae_edge.formats import enginefile
from adae_edge.formats.enginefile import Engine
from tests.support.checkout import ROOT
from tests.support.models import a_contract, mean_model

RESULTS = ROOT / "docs" / "results"


def test_the_page_is_that_of_the_results():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert page == table.page(RESULTS), "python -m adae_edge.benchmarks.table writes it anew"


def test_without_results_every_part_has_its_command(tmp_path):
    page = table.page(tmp_path)
    for part in table.PARTS:
        assert f"## {part.title}\n\n**not measured**: `{part.command}`\n" in page
    assert page.count("## Jetson: ") == 4


MEASURED = {
    "command": "adae-edge bench p.engine",
    "machine": {"cpu": "ARMv8", "usable_cpus": 6, "power_mode": "MAXN_SUPER (2)"},
    "load_ms": 5.0,
    "first_inference_ms": 7.5,
    "measurements": [
        {
            "width": 640,
            "height": 480,
            "batch": 1,
            "min_ms": 1.0,
            "p50_ms": 1.25,
            "p99_ms": None,
            "max_ms": 9.0,
            "frames_per_s": 800.4,
            "verdicts": [{"name": "throttled"}],
        }
    ],
}


MARKDOWN = MEASURED | {
    "machine": {"cpu": "ARMv8", "python": "3.10", "system": "Linux aarch64"},
    "model": {"file": "p.engine"},
    "threads": 6,
    "backend": "TensorRT",
    "versions": {"adae_edge": "0.1.0"},
    "measurements": [],
    "no_energy": [],
}


@pytest.mark.parametrize(("built", "told"), [(None, "ms."), (41.5, "ms, engine built in 41.5 s.")])
def test_a_jetson_has_its_row_with_mode_and_verdicts(tmp_path, built, told):
    result = MEASURED | {"build_s": built}
    (tmp_path / "bench-jetson-orin-nano.json").write_text(json.dumps(result))
    page = table.page(tmp_path)
    assert "ARMv8, 6 usable, power mode MAXN_SUPER (2): `adae-edge bench p.engine`" in page
    row = next(line for line in page.splitlines() if line.startswith("| 640x480"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["640x480", "1", "1.000", "1.250", "too few", "9.000", "800", "throttled"]
    assert f"Load 5.0 ms, first score 7.5 {told}" in page


def test_an_engine_tells_the_bench_how_long_it_took_to_build(tmp_path):
    path = tmp_path / "m.engine"
    for options, seconds in (({"build_s": 41.5}, 41.5), ({"batch": [1]}, None)):
        engine = Engine(
            contract=dataclasses.replace(a_contract(3), form=Form(size=(48, 64))),
            flavour="tensorrt",
            version="10.3.0",
            gpu="Orin",
            compute_capability="8.7",
            onnx_sha256="a" * 64,
            options=options,
            plan=b"plan",
        )
        path.write_bytes(enginefile.to_bytes(engine))
        assert bench._build_s(path) == seconds
    path.write_bytes(mean_model(3))
    assert bench._build_s(path) is None
    assert (
        as_markdown(MARKDOWN | {"build_s": 41.5})
        .splitlines()[2]
        .startswith("load 5.0 ms, first inference 7.5 ms, engine built in 41.5 s; ")
    )


def about(**figures):
    return {"command": "python -m x", "machine": {"cpu": "c", "usable_cpus": 2}, **figures}


def test_ratios_roofs_curves_and_rows_are_shown(tmp_path):
    network = {
        "network": "b",
        "batch": 64,
        "ms": 2.0,
        "gflop_per_s": 110.0,
        "over_roof": 1.5,
        "quartiles": [1.4, 1.6],
        "goal": 1.6,
        "met": True,
        "profile": {"Conv": 0.6, "Tanh": 0.1},
    }
    rates = {"gflop_per_s": {"numpy": 160.0, "ORT": 165.2}, "copy_gb_per_s": {"numpy": 9.0}}
    files = {
        "roof": {"measurements": [{"threads": 1, "networks": [network], **rates}]},
        "graphs": {
            "comparisons": [
                {
                    "what": "32x32",
                    "ratios": [
                        {"of": "x", "to": "ours", "ratio": 3.5, "goal": "at least 3", "met": True}
                    ],
                }
            ]
        },
        "overhead": {"rows": [{"who": "ours", "MB": 75.5, "rounds": [1, 2]}]},
        "peers": {
            "tables": [
                {
                    "size": [32, 32],
                    "threads": 1,
                    "contenders": {"x": {"min_ms": 0.5, "median_ms": 0.75}},
                }
            ],
            "costs": {"x": {"cpu_s": 4.9, "resident_mb": 574.2}},
            "goals": [
                {
                    "where": "all",
                    "figure": "cpu_s",
                    "of": "x",
                    "to": "ours",
                    "ratio": [32.7, 30.0, 33.0],
                    "goal": "at least 20",
                    "met": True,
                }
            ],
        },
        "curves": {
            "points": [
                {
                    "curve": "length",
                    "at": "10 min",
                    "p50_ms": 1.0,
                    "p99_ms": 2.0,
                    "frames_per_s": 1000.0,
                    "verdicts": [],
                    "parts_p50_ms": [1.0, 1.1, 1.2],
                }
            ]
        },
    }
    for name, figures in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(about(**figures)))
    page = " ".join(table.page(tmp_path).split())
    assert "Best of 1 threads: 165 GFLOP/s, 9.0 GB/s copied." in page
    assert "1.50 | 1.40 to 1.60 | at most 1.6: met | Conv 60%, Tanh 10% |" in page
    assert "3.500 | at least 3: met |" in page
    assert "| ours | 75.5 |" in page
    assert "| 32x32 | 1 | x | 0.500 | 0.750 |" in page
    assert "| x | 4.90 | 574 |" in page
    assert "| all | cpu_s | x | ours | 32.70 | at least 20: met |" in page
    assert "first tenth 1.000 ms, last tenth 1.200 ms, 1.200 times." in page


def test_one_command_measures_all_that_a_cpu_shows():
    script = Path(ROOT / "benchmarks" / "remake.sh").read_text()
    for part in table.PARTS:
        if "adae_edge.benchmarks" in part.command and "peers" not in part.file:
            module = part.command.split()[2].removeprefix("adae_edge.benchmarks.")
            assert module in script or module == "streaming"
