"""Ctrl-C: `mld up` stops everything it started."""

from __future__ import annotations

import socket

import pytest

from tests.support.processes import marked, platform_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_ctrl_c_leaves_no_process_behind_and_frees_the_port(tmp_path):
    with platform_up(tmp_path / "state") as running:
        started = marked(running.mark)
        assert len(started) >= 3, started  # `mld up`, webserver, daemon, their code servers
        assert running.graphql("{ version }")["version"]
        done = running.stop()
    assert (done.status, done.stdout, done.stderr) == (0, "", ""), done
    assert marked(running.mark) == {}
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", running.port))
