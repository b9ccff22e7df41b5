"""An archive of others, Orthanc, sends what it holds and asks whether it is kept."""

import json

import numpy as np
import pytest

from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.benchmarks.peers.processes import free_port
from tests.support.heads import scan
from tests.support.models import slice_model
from tests.support.peers import peers
from tests.support.real_archives import orthanc
from tests.support.receiving import receiver, wait_until
from tests.support.scoring import scoring
from tests.support.series import turned, write_series
from tests.support.slices import write_slice

SERIES = {"PatientID": "7", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.2"}


@pytest.mark.parametrize("by_tls", [False, True])
def test_orthanc_sends_and_is_told_what_is_kept(tmp_path, by_tls):
    port, ours, theirs = free_port(), {}, {}
    if by_tls:
        with peers():
            (cert, key), (other, other_key) = (certificate(tmp_path, name) for name in "ab")
        ours = {"cert": str(cert), "key": str(key), "ca": str(other)}
        theirs = {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(other),
            "DicomTlsPrivateKey": str(other_key),
            "DicomTlsTrustedCertificates": str(cert),
        }
    with receiver(tmp_path, commit=(("ORTHANC", "127.0.0.1", port),), **ours) as one:
        adae = {
            "AET": "ADAE",
            "Host": "127.0.0.1",
            "Port": one.port,
            "AllowStorageCommitment": True,
            "UseDicomTls": by_tls,
        }
        with orthanc(tmp_path, port, modalities={"adae": adae}, **theirs) as archive:
            sent = []
            for number in (1, 2):
                path = tmp_path / f"{number}.dcm"
                pixels = np.full((16, 16), number, np.uint8)
                uids = {"SOPInstanceUID": f"1.2.3.{number}", **SERIES}
                write_slice(path, pixels, **uids)
                sent.append(archive.call("/instances", path.read_bytes())["ID"])
            asked = {"Resources": sent, "StorageCommitment": True, "Synchronous": True}
            said = archive.call("/modalities/adae/store", json.dumps(asked).encode())
            place = f"/storage-commitment/{said['StorageCommitmentTransactionUID']}"
            wait_until(lambda: archive.call(place)["Status"] != "Pending")
            report = archive.call(place)
    assert report["Status"] == "Success"
    assert sorted(item["SOPInstanceUID"] for item in report["Success"]) == ["1.2.3.1", "1.2.3.2"]
    assert len(one.files()) == 2


def test_orthanc_asks_for_commitment_of_a_series_and_it_is_scored_as_complete(tmp_path):
    paths = write_series(tmp_path / "series", turned(scan(3)[0]), SeriesInstanceUID="1.2.3")
    port = free_port()
    query = f"?commit=ORTHANC:127.0.0.1:{port}"
    with scoring(tmp_path, "--quiet", "1000s", model=slice_model(), query=query) as one:
        adae = {
            "AET": "ADAE",
            "Host": "127.0.0.1",
            "Port": one.port,
            "AllowStorageCommitment": True,
        }
        with orthanc(tmp_path, port, modalities={"adae": adae}) as archive:
            kept = [archive.call("/instances", path.read_bytes()) for path in paths]
            series = {instance["ParentSeries"] for instance in kept}
            asked = {"Resources": [*series], "StorageCommitment": True, "Synchronous": True}
            archive.call("/modalities/adae/store", json.dumps(asked).encode())
            wait_until(one.series)
        assert one.series() == ["complete (commitment): 16 slices"]
        assert {row["complete"] for row in one.rows()} == {"commitment"}
