"""The run against a head from elsewhere: on made-up heads, from training to page."""

import json

import nibabel

from adae_edge.benchmarks import elsewhere
from tests.support.heads import scan
from tests.support.series import turned, write_series


def test_a_series_is_measured_beside_people_who_were_left_out(tmp_path, capsys):
    for person in range(6):
        path = tmp_path / "volumes" / f"p{person}_T1.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(turned(scan(person)[0]), path)
    values, _ = scan(9)
    values[:20] *= 4  # a head that looks like nobody's
    write_series(tmp_path / "series", turned(values))
    out = tmp_path / "result"
    elsewhere.main(tmp_path / "volumes", tmp_path / "series", out, "t1", 0.2, "0", "local")

    (row,) = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert row["verdicts"] == {"uncalibrated": row["slices"]}
    assert (row["people_left_out"], row["choice"], row["seed"]) == (2, "local", 0)
    assert row["slices"] >= 8
    assert row["above"] > 0.9 > row["above_left_out"]
    assert row["auroc"] > 0.9
    assert 0.5 <= row["yardstick"]["auroc"] <= 1
    page = out.with_suffix(".md").read_text()
    (printed,) = capsys.readouterr().out.splitlines()
    assert printed == page.splitlines()[-1]
    assert f"{row['above']:.1%}" in printed
