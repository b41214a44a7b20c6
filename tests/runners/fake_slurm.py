"""A cluster of one node that is none: sbatch, squeue, scancel, scontrol and srun, without SLURM and in milliseconds.

The commands ask a server that has imported torch and forks each job, which then runs submitit's own code on submitit's
own files. Made to test submission, cancellation, crashes and requeues; the real SLURM is in the torture tests.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")

_CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect({address!r})
    link.sendall(json.dumps([[os.path.basename(sys.argv[0]), *sys.argv[1:]], dict(os.environ)]).encode() + b"\\n")
    code, out, err = json.loads(link.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@dataclass
class Job:
    """A job or an element of an array: `7` or `7_0`."""

    id: str
    options: Mapping[str, str]
    folder: str
    environment: dict[str, str]
    state: str = "PENDING"
    pid: int = 0
    status: int = 0
    is_requeued: bool = False

    def start(self) -> None:
        """Forks the process of the job."""
        self.pid, self.state, self.is_requeued = os.fork(), "RUNNING", False
        if self.pid == 0:
            code = 1
            try:
                self._run()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0) & 0xFF
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)

    def _run(self) -> None:
        main, _, index = self.id.partition("_")
        array = {"SLURM_ARRAY_JOB_ID": main, "SLURM_ARRAY_TASK_ID": index} if index else {}
        output = self.options["output"].replace("%A", main).replace("%a", index).replace("%j", main)
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.setsid()
        os.environ.clear()
        os.environ.update(self.environment | array | {"SLURM_JOB_ID": main, "SUBMITIT_EXECUTOR": "slurm"})
        sys.path[:0] = self.environment.get("PYTHONPATH", "").split(os.pathsep)
        from submitit.core.submission import process_job

        process_job(self.folder)

    def reap(self) -> None:
        """Notes that the process of the job has ended, if it has."""
        if self.state != "RUNNING":
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid and self.is_requeued:
            self.state = "PENDING"
        elif pid:
            # As srun does: a killed task makes it end with 128 and the signal.
            self.status = (128 + status) << 8 if 0 < status < 128 else status
            self.state = "COMPLETED" if status == 0 else "FAILED"


@dataclass
class Cluster:
    """Jobs and how many may run at once; `refused` is a partition that there is not."""

    cores: int
    jobs: dict[str, Job] = field(default_factory=dict)
    number: int = 6

    def step(self) -> None:
        """Ends and starts jobs."""
        for job in self.jobs.values():
            job.reap()
        for job in self.jobs.values():
            if job.state == "PENDING" and sum(other.state == "RUNNING" for other in self.jobs.values()) < self.cores:
                job.start()

    def answer(self, words: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
        """Carries out a command; returns exit code, output and errors."""
        command, *arguments = words
        if command == "sbatch":
            return self._sbatch(arguments, environment)
        if command == "squeue":
            name = next(word.partition("=")[2] for word in arguments if word.startswith("--name="))
            known = [job for job in self.jobs.values() if job.options["job-name"] == name]
            return 0, "".join(f"{job.id:64}{job.state:32}{job.status:<16}\n" for job in known), ""
        if command == "scancel":
            return self._scancel(arguments)
        assert command == "scontrol", words
        assert arguments[0] == "requeue", words
        self.jobs[arguments[1]].is_requeued = True
        return 0, "", ""

    def _sbatch(self, arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
        text = "" if "--test-only" in arguments else Path(arguments[-1]).read_text()
        options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))
        if "--partition=nowhere" in arguments or options.get("partition") == "nowhere":
            return 1, "", "sbatch: error: invalid partition specified: nowhere\nsbatch: error: Batch job failed\n"
        if not text:
            return 0, "", "sbatch: Job 7 to start at 2030-01-01T00:00:00\n"
        self.number += 1
        last = re.match(r"0-(\d+)", options.get("array", ""))
        ids = [f"{self.number}_{index}" for index in range(int(last[1]) + 1)] if last else [str(self.number)]
        folder = text.split()[-1]
        self.jobs |= {job: Job(job, options, folder, environment) for job in ids}
        return 0, f"Submitted batch job {self.number}\n", ""

    def _scancel(self, arguments: list[str]) -> tuple[int, str, str]:
        options = dict(word[2:].split("=", 1) for word in arguments if word.startswith("--"))
        for job in (self.jobs[word] for word in arguments if not word.startswith("--")):
            if job.state == "RUNNING" and "state" not in options:
                os.kill(job.pid, signal.Signals[f"SIG{options.get('signal', 'KILL')}"])
            elif job.state == "PENDING" and "signal" not in options:
                job.state = "CANCELLED"
        return 0, "", ""


def serve(address: str, cores: int) -> None:
    """Is the cluster, until it is killed."""
    from runners.workers import measure  # noqa: F401

    cluster = Cluster(cores)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(0.02)
        while True:
            with suppress(TimeoutError):
                link, _ = listener.accept()
                with link:
                    link.settimeout(10)
                    words, environment = json.loads(link.makefile().readline())
                    link.sendall(json.dumps(cluster.answer(words, environment)).encode() + b"\n")
            cluster.step()


@contextmanager
def fake_slurm(folder: Path, cores: int) -> Iterator[None]:
    """Puts the commands of a cluster on the PATH for the length of a block.

    Args:
        folder: An empty folder with a short name: it is part of a socket's.
        cores: How many jobs run at once.
    """
    address, programs = str(folder / "socket"), folder / "bin"
    programs.mkdir()
    for name in COMMANDS:
        (programs / name).write_text(_CLIENT.format(python=sys.executable, address=address))
        (programs / name).chmod(0o755)
    server: subprocess.Popen[Any] = subprocess.Popen([sys.executable, "-m", __name__, address, str(cores)])
    deadline = time.monotonic() + 60
    while not Path(address).exists():
        assert server.poll() is None, "the fake cluster did not start"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{programs}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
        server.kill()
        server.wait()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
