"""Fork jobs from one process that has already imported torch.

Importing torch takes longer than many short runs train. The process that runs a workflow therefore
calls `start`, and the training jobs on this machine hand themselves over with `run`: the server
forks a child with the arguments, environment, folder and output of the job, and the job waits for
the child's exit status. The job forwards signals to the child, and the child ends if the job is
killed. A job that finds no server of its own installation (on another machine, or after an edit of
the sources) runs in its own process.

Nothing is computed before a fork, so results are bit-identical with and without a server. This
module imports only the standard library and what needs no more, so that a waiting job starts fast.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from hashlib import sha256
from multiprocessing.connection import Client, Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from threading import Event, Thread

from prunebench.training.launch import is_one_of_several

FOLDER = "PRUNEBENCH_FORKSERVER"  # environment variable with the server's folder
STAGES = ("base", "prune")
PRELOADED = ("prunebench.cli.command", "prunebench.training.train", "prunebench.training.progress")
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
REAP_S = 2.0  # seconds between two looks for ended children

servers: list[subprocess.Popen[bytes]] = []  # by this process; open pipes keep them alive


def start() -> None:
    """Start a server for the jobs of this process; it ends with this process.

    Do nothing if the environment variable is set: jobs then use the server in its folder, if any.
    """
    if FOLDER in os.environ or sys.platform != "linux":  # macOS does not allow forks after imports
        return
    folder = tempfile.mkdtemp(prefix="prunebench-")
    # Bound before the server starts, so that the first job finds the socket and waits.
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(address(folder))
        except OSError as error:  # the path of a socket is limited to about 100 characters
            print(
                f"prunebench: {folder}: {error}; each job runs in its own process", file=sys.stderr
            )
            Path(folder).rmdir()
            return
        listener.listen()
        number = listener.fileno()
        command = [sys.executable, "-m", "prunebench.cli.forkserver", folder, str(number)]
        # In its own session: only the jobs receive Ctrl-C, and they forward it.
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=[number], start_new_session=True
        )
    servers.append(server)
    os.environ[FOLDER] = folder


def run(arguments: Sequence[str]) -> int | None:
    """Run a `prunebench` command in the server and return its exit status.

    Return None if the command must run in this process: it does not train, it is one of several
    that torchrun or srun watches, or there is no server.
    """
    folder = os.environ.get(FOLDER)
    if not folder or not arguments or arguments[0] not in STAGES or is_one_of_several():
        return None
    try:
        with Client(address(folder), "AF_UNIX") as connection:
            connection.send((arguments, dict(os.environ), str(Path.cwd())))
            for stream in (1, 2):
                send_handle(connection, stream, None)
            connection.recv()
            return _status(connection)
    except (OSError, EOFError):
        return None


def _status(connection: Connection) -> int:
    """Wait for the child and forward signals to it."""
    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup lets jobs ignore SIGHUP
            signal.signal(number, lambda number, frame: connection.send(number))
    try:
        status: int = connection.recv()
    except (OSError, EOFError):
        return 128 + signal.SIGKILL
    return status


def serve(listener: socket.socket) -> None:
    """Fork for each job until standard input is closed; running jobs continue."""
    while True:
        ready = select.select([listener, sys.stdin], [], [], REAP_S)[0]
        multiprocessing.active_children()  # reaps ended children, so that their locks are free
        if not ready:
            continue
        if listener not in ready:
            return
        connection = Connection(listener.accept()[0].detach())
        for module in PRELOADED:
            importlib.import_module(module)
        gc.freeze()  # keeps the imported modules in shared memory pages
        multiprocessing.get_context("fork").Process(target=_run_job, args=(connection,)).start()
        connection.close()


def _run_job(connection: Connection) -> None:
    """Run the job of the other end with its arguments, environment, folder and output."""
    arguments, environment, folder = connection.recv()
    for stream in (1, 2):
        received = recv_handle(connection)
        os.dup2(received, stream)
        os.close(received)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the server ignores
    connection.send("started")
    ended = Event()
    Thread(target=_receive_signals, args=(connection, ended), daemon=True).start()
    status = _exit_status(arguments)
    ended.set()
    connection.send(status)


def _receive_signals(connection: Connection, ended: Event) -> None:
    """Receive forwarded signals; kill this process if the waiting job is gone before the end."""
    while not ended.is_set():
        try:
            number = connection.recv()
        except (OSError, EOFError):
            if ended.is_set():
                return
            number = signal.SIGKILL
        os.kill(os.getpid(), number)


def _exit_status(arguments: list[str]) -> int:
    """Run the command line and return the exit status of an ordinary process."""
    from prunebench.cli import command

    try:
        command.run(arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # as in __main__
        print("prunebench: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BaseException:  # as Python itself would print and return
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def address(folder: str) -> str:
    """Return the path of the socket for the current sources of this installation.

    After an edit of the sources, jobs no longer find a server that was started before. Neither do
    other jobs of SLURM on the same machine: they would use the cores and the memory that SLURM has
    given to the server's job.
    """
    package = Path(__file__).parents[1]
    edited = max(path.stat().st_mtime_ns for path in package.rglob("*.py"))
    installation = f"{sys.prefix} {package} {edited} {os.environ.get('SLURM_JOB_ID', '')}"
    return str(Path(folder) / sha256(installation.encode()).hexdigest()[:16])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the jobs and Snakemake, then this
    try:
        serve(socket.socket(fileno=int(sys.argv[2])))
    finally:
        shutil.rmtree(sys.argv[1], ignore_errors=True)
