"""What the machine gives us, ports, and the state folder."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from framegrid_local import machine, ports
from framegrid_local.doctor import CHECKS, run_doctor
from framegrid_local.errors import LocalError, PortInUseError
from framegrid_local.state import StateDir


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None)], ids=str
)
def test_reads_the_quota_of_cgroup_v2(tmp_path: Path, text: str, cpus: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert machine.cgroup_cpus(tmp_path) == cpus


def test_reads_the_quota_of_cgroup_v1(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.cgroup_cpus(tmp_path) == 2.0


def test_memory_is_limited_by_the_container(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{1 << 28}\n")
    assert machine.memory_bytes(tmp_path) == 1 << 28
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_bytes(tmp_path) > 1 << 28


@pytest.mark.parametrize(("cpus", "replicas"), [(1, 1), (2, 1), (3, 2), (8, 7)])
def test_one_replica_per_core_less_one(cpus: int, replicas: int) -> None:
    assert machine.default_replicas(cpus) == replicas


def test_a_preferred_port_is_kept_while_it_is_free() -> None:
    port = ports.free_port()
    assert ports.free_port(port) == port
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, port))
        taken.listen()
        assert not ports.is_free(port)
        assert ports.free_port(port) != port


def test_ports_are_picked_where_outgoing_connections_are_never_put(tmp_path: Path) -> None:
    ephemeral = tmp_path / "range"
    ephemeral.write_text("32768\t60999\n")
    assert ports._pickable(ephemeral) == range(32_000, 32_768)
    ephemeral.write_text("1024\t65535\n")
    assert ports._pickable(ephemeral) == range(0)
    assert ports._pickable(tmp_path / "missing") == range(0)
    picked = {ports.free_port() for _ in range(20)}
    assert len(picked) > 1
    assert all(ports.is_free(port) for port in picked)


def test_a_taken_port_is_refused_with_the_option_to_change() -> None:
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"page: port {port} .* --page-port"):
            ports.require_port(port, "page", "--page-port")


def test_one_user_of_a_state_folder_at_a_time(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path / "state"), StateDir(tmp_path / "state")
    first.lock()
    with pytest.raises(LocalError, match=r"another framegrid \(process \d+\) .*--state-dir"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_state_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="cannot write to the state folder"):
        StateDir(tmp_path / "file" / "state").lock()


def test_private_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = StateDir(tmp_path).write_private(tmp_path / "url", "secret\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "secret\n"


def test_doctor_says_what_each_fact_means(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [finding for check in CHECKS for finding in check()]
    assert all(finding.value and finding.meaning for finding in findings)
    assert run_doctor(as_json=False) == int(any(finding.level == "problem" for finding in findings))
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("cores", "OpenVINO", "PostgreSQL", "ports"))
