"""Processes of this machine, without Ray: started, asked and answered over a pipe.

Run as a module, this file is such a process: `python -m harness.executors.processes FD`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from harness.executors.gang import Death, Gangs
from harness.executors.gang_member import GangMember
from harness.executors.local import Job
from harness.executors.ray import Sweep
from harness.executors.ray_journal import Journal
from harness.executors.ray_options import ClusterOptions
from harness.executors.ray_worker import Setup, own_versions
from harness.runtime import cpu_count
from harness.strategies import gpus_per_process, physical_gpus
from harness.types import OptgridError, Outcome, Tile

ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3"}
LOOPBACK = "127.0.0.1"


class Process:
    """One process and the pipe to it.

    Args:
        setup: what every process is told.
        host: its address, as its peers can reach it.
        gpus: numbers of the GPUs that it may see.
        prefix: words before the command, as `ip netns exec NAME`.
    """

    def __init__(self, setup: Setup, host: str, gpus: Sequence[str], prefix: Sequence[str] = ()):
        ours, theirs = connection.Pipe()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=environment,
            start_new_session=True,  # Ctrl-C is this process's to answer
        )
        theirs.close()
        self.pipe = ours
        self._say((setup, len(gpus), host))

    def ask(self, call: str, *arguments: Any) -> None:
        """Has the process call `endpoint`, `hello` or `run`."""
        self._say((call, arguments))

    def _say(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone: the pipe's end is heard of next
            self.pipe.send(message)

    def answer(self) -> Any:
        """The next answer; `Death` where the process is gone."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return self._death()

    def _death(self) -> Death:
        code = self.process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        said = f"; it said: {lines[-1][:200]}" if code > 0 and lines else ""
        return Death(f"process {self.process.pid} ended {how}{said}")

    def end(self) -> None:
        """Ends the process at once; what it has committed stays."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        self.log.close()


class Machine:
    """This machine as a place for processes.

    Args:
        setup: what every process is told.
        gpus: of each process; 0: none, and GPUs that are there are hidden.
        hosts: addresses that processes use, in turn, with the words before their commands.
    """

    def __init__(
        self, setup: Setup, gpus: int = 0, hosts: Sequence[tuple[str, Sequence[str]]] = ((LOOPBACK, ()),)
    ):
        self.setup, self.gpus, self.hosts = setup, gpus, hosts
        self.running: dict[int, Process] = {}

    def start(self, size: int) -> list[Any]:
        """Processes of a new gang, each with GPUs of its own."""
        started = []
        for _ in range(size):
            place = next(i for i in range(len(self.running) + 1) if i not in self.running)
            numbers = self._gpu_numbers(place) if self.gpus else []
            host, prefix = self.hosts[place % len(self.hosts)]
            self.running[place] = Process(self.setup, host, numbers, prefix)
            started.append(self.running[place])
        return started

    def _gpu_numbers(self, place: int) -> list[str]:
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        known = [n for n in named.split(",") if n] or [str(i) for i in range(physical_gpus())]
        return known[place * self.gpus : (place + 1) * self.gpus]

    def answers(self, seats: Sequence[Any], wait: float) -> list[tuple[Any, Any]]:
        """The next answer of every process that has one."""
        by_pipe = {seat.pipe: seat for seat in seats}
        return [(by_pipe[pipe], by_pipe[pipe].answer()) for pipe in connection.wait(list(by_pipe), wait)]

    def end(self, seats: Sequence[Any]) -> None:
        for seat in seats:
            seat.end()
        self.running = {place: each for place, each in self.running.items() if each not in seats}

    def missing(self) -> str:
        """What is waited for."""
        return "the processes on this machine did not come together"


def execute(
    tiles: Sequence[Tile],
    job: Job,
    stop: threading.Event | None = None,
    *,
    fingerprint: str = "",
    hosts: Sequence[tuple[str, Sequence[str]]] = ((LOOPBACK, ()),),
) -> Iterator[Outcome]:
    """Runs tiles in processes of this machine, yields their outcomes as they are committed.

    Args:
        fingerprint: of the study, which processes look for in the results folder.
        hosts: addresses that processes use, in turn, with the words before their commands.
    Raises:
        UsageError: not as many GPUs as replicas.
        RunError: the processes cannot start, or the results cannot be written.
    """
    layout = job.layout
    batch = layout.split == "batch"
    gpus = gpus_per_process(layout)
    size = layout.processes if batch else 1
    wanted = layout.replicas or job.workers or (physical_gpus() if gpus else cpu_count())
    count = 1 if batch else min(len(tiles), wanted)
    setup = Setup(
        address=str(job.store.local or job.store.address),
        study=job.study,
        layout=layout,
        curves=job.curves,
        gather=False,
        fingerprint=fingerprint,
        versions=own_versions(),
        environment=ENVIRONMENT,
    )
    journal, options = Journal(job.store), ClusterOptions("local")
    pool = Gangs(Machine(setup, gpus, hosts), options, size=size, count=count, gpus=gpus, event=journal)
    try:
        yield from Sweep(tiles, job, options, pool, journal, stop or threading.Event()).run()
    finally:
        pool.close()
        journal.close()


# -- in the process ------------------------------------------------------------------------------------


def serve(pipe: Connection) -> None:
    """Answers what comes over the pipe, until it is closed."""
    setup, gpus, host = pipe.recv()
    member = GangMember(setup, gpus, host)
    calls = {"endpoint": member.endpoint, "hello": member.hello, "run": member.run}
    asked: queue.Queue[Any] = queue.Queue()
    # Listens while a tile runs: where the driver is gone, nobody wants it any more.
    threading.Thread(target=_listen, args=(pipe, asked), daemon=True).start()
    while True:
        call, arguments = asked.get()
        try:
            answer = calls[call](*arguments)
        except OptgridError as error:
            answer = error
        except Exception as error:
            answer = RuntimeError(f"{call} raised {type(error).__name__}: {error}"[:500])
        pipe.send(answer)


def _listen(pipe: Connection, asked: queue.Queue[Any]) -> None:
    try:
        while True:
            asked.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
