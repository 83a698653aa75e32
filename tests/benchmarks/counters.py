"""CPU, Redis and PostgreSQL counters of a running fleet, by process, between two moments.

Every process that serves the fleet counts: the Python workers, Valkey and all backends of
PostgreSQL. The benchmark's own process, its own database backend and the server in the vendor's
place do not.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

_HZ = os.sysconf("SC_CLK_TCK")
VALKEY, POSTGRES = "valkey", "postgres"


@dataclass(frozen=True, slots=True)
class Counters:
    """What was used until one moment.

    cpu_s: seconds of CPU by process name. rss_kib: resident memory by process name. redis: `bytes`
    in and out, `commands`, `aof_bytes`. wal_bytes: PostgreSQL's.
    """

    cpu_s: dict[str, float]
    rss_kib: dict[str, int]
    redis: dict[str, int]
    wal_bytes: int

    def since(self, before: "Counters", pushes: int) -> dict[str, Any]:
        """Per push: µs of CPU by process and in all, bytes and commands of Redis, WAL bytes."""
        spent = self.cpu_s.items()
        cpu = {name: (used - before.cpu_s.get(name, 0.0)) / pushes * 1e6 for name, used in spent}
        counted = self.redis.items()
        redis = {name: round((value - before.redis[name]) / pushes, 2) for name, value in counted}
        return {
            "cpu_us_per_push": round(sum(cpu.values()), 1),
            "cpu_us_by_process": {
                name: round(us, 1) for name, us in sorted(cpu.items(), key=lambda item: -item[1])
            },
            "redis_per_push": redis,
            "wal_bytes_per_push": round((self.wal_bytes - before.wal_bytes) / pushes),
        }


def counters(data_dir: Path, redis: Any, engine: Engine, servers: Sequence[int] = ()) -> Counters:
    """The fleet's counters of now. data_dir: the fleet's, by which its processes are found.
    servers: process ids of a cluster's, whose bytes and commands are not counted.
    """
    cpu: dict[str, float] = {}
    rss: dict[str, int] = {}
    found = processes(data_dir)
    with engine.connect() as connection:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        wal = connection.execute(text("SELECT wal_bytes FROM pg_stat_wal")).scalar() or 0
    for name, pids in found.items():
        for pid in pids:
            with contextlib.suppress(OSError):
                used, reaped = _cpu_s(pid)
                # backends that ended count with the postmaster that reaped them
                children = reaped if name == POSTGRES and pid == pids[0] else 0.0
                cpu[name] = cpu.get(name, 0.0) + (0.0 if pid == own else used) + children
                rss[name] = rss.get(name, 0) + _rss_kib(pid)
    if servers:
        cpu[VALKEY] = cpu.get(VALKEY, 0.0) + sum(_cpu_s(pid)[0] for pid in servers)
        return Counters(cpu, rss, {}, int(wal))
    info = redis.info("all")
    cpu[VALKEY] = info["used_cpu_user"] + info["used_cpu_sys"]
    told = {
        "bytes": info["total_net_input_bytes"] + info["total_net_output_bytes"],
        "commands": info["total_commands_processed"],
        "aof_bytes": info.get("aof_current_size", 0),
    }
    return Counters(cpu, rss, told, int(wal))


def processes(data_dir: Path) -> dict[str, list[int]]:
    """Process ids of the fleet by name; of PostgreSQL the postmaster first."""
    found: dict[str, list[int]] = {}
    parents: dict[int, int] = {}
    for pid, command, environ in _all():
        with contextlib.suppress(OSError, IndexError):
            parents[pid] = _parent(pid)
        ours = f"PUSHFLEET_DATA_DIR={data_dir}".encode() in environ
        # its environment is bare, and its title names no folder
        if "valkey-server" in command and (ours or _works_in(pid, data_dir)):
            found.setdefault(VALKEY, []).append(pid)
        elif "bin/postgres" in command and str(data_dir) in command:
            found.setdefault(POSTGRES, []).insert(0, pid)
        elif ours and " worker " in command:
            found.setdefault(_worker(command), []).append(pid)
    heads = set(found.get(POSTGRES, ()))
    for pid, parent in parents.items():
        if parent in heads and pid not in heads:
            found[POSTGRES].append(pid)
    return found


def _works_in(pid: int, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    return False


def _worker(command: str) -> str:
    words: Sequence[str] = command.split(" worker ", 1)[1].split()
    return "-".join([words[0], *words[2:3]]) if "--vendors" in words else words[0]


def _all() -> Iterator[tuple[int, str, bytes]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            raw = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            command = raw.decode("utf-8", "replace").strip()
            yield int(folder.name), command, (folder / "environ").read_bytes()


def _fields(pid: int) -> list[str]:
    return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()


def _parent(pid: int) -> int:
    return int(_fields(pid)[1])


def _cpu_s(pid: int) -> tuple[float, float]:
    """Seconds of CPU of the process itself, and of its children that ended."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / _HZ, (int(fields[13]) + int(fields[14])) / _HZ


def _rss_kib(pid: int) -> int:
    return int(_fields(pid)[21]) * os.sysconf("SC_PAGE_SIZE") // 1024
