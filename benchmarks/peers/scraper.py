"""A Prometheus server that scrapes one port, and answers what it has."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adae_edge.benchmarks.peers.processes import Peer, free_port, peer, program


@dataclass
class Scraper:
    """A running server.

    Attributes:
        peer: its process.
        port: at which it answers on 127.0.0.1.
    """

    peer: Peer
    port: int

    def ask(self, query: str) -> float | None:
        """The first value that a query gives now; None where it gives none, or none yet."""
        path = f"/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:  # it still starts
                    return None
                found = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return float(found[0]["value"][1]) if found else None


@contextmanager
def scraper(folder: Path, port: int, interval_ms: int = 500) -> Iterator[Scraper]:
    """A server within the block that scrapes a port of 127.0.0.1.

    Args:
        folder: for its configuration and its data; it exists.
        port: which it scrapes.
        interval_ms: between two scrapes.

    Raises:
        MissingPeer: there is no Prometheus.
    """
    own, configuration = free_port(), folder / "prometheus.yml"
    configuration.write_text(
        f"global: {{scrape_interval: {interval_ms}ms, scrape_timeout: {interval_ms}ms}}\n"
        "scrape_configs:\n"
        f"- {{job_name: edge, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
    )
    arguments = [
        program("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with peer(arguments) as started:
        yield Scraper(started, own)
