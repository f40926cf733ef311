"""Jobs that fork from one process, in which torch is imported already.

Importing torch takes longer than many a short run trains. So the process that runs a workflow
calls `start`, and the jobs that train on this machine hand themselves over (`run`): the server
forks, the child takes their arguments, environment, folder and output, and they wait for its
exit status. They pass signals on to the child, and it dies with them. A job that finds no server
of its own installation (on another machine, after an edit of the sources) runs by itself.

Nothing is computed before a fork: results are the same bits with a server and without. What waits
imports only the standard library, so that it starts in no time.
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

FOLDER = "PRUNEBENCH_FORKSERVER"  # the variable that leads jobs to the server's folder
STAGES = ("base", "prune")
PRELOADED = ("prunebench.cli.command", "prunebench.training.train", "prunebench.training.progress")
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

servers: list[subprocess.Popen[bytes]] = []  # started here; their open pipes keep them alive


def start() -> None:
    """Start a server for the jobs of this process; it ends when this process does.

    Where the variable is set already, jobs use what it leads to: a server, or none.
    """
    if FOLDER in os.environ or sys.platform != "linux":  # macOS forbids to fork after imports
        return
    folder = tempfile.mkdtemp(prefix="prunebench-")
    # Bound here: the first job finds it, and waits for the server to come.
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(address(folder))
        except OSError as error:  # the path of a socket may have some 100 characters
            print(f"prunebench: {folder}: {error}; each job starts by itself", file=sys.stderr)
            Path(folder).rmdir()
            return
        listener.listen()
        number = listener.fileno()
        command = [sys.executable, "-m", "prunebench.cli.forkserver", folder, str(number)]
        # In a session of its own: Ctrl-C is for the jobs, which pass it on.
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=[number], start_new_session=True
        )
    servers.append(server)
    os.environ[FOLDER] = folder


def run(arguments: Sequence[str]) -> int | None:
    """Have the server run a command of `prunebench`; return its exit status.

    None where the command has to run here: it does not train, or no server takes it.
    """
    folder = os.environ.get(FOLDER)
    if not folder or not arguments or arguments[0] not in STAGES:
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
    """Wait for the child, and pass signals on to it."""
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: connection.send(number))
    try:
        status: int = connection.recv()
    except (OSError, EOFError):
        return 128 + signal.SIGKILL
    return status


def serve(listener: socket.socket) -> None:
    """Fork for each job until standard input ends; jobs that run go on."""
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection = Connection(listener.accept()[0].detach())
        for module in PRELOADED:
            importlib.import_module(module)
        gc.freeze()  # what all jobs share stays shared
        multiprocessing.get_context("fork").Process(target=_become, args=(connection,)).start()
        connection.close()
        multiprocessing.active_children()  # buries those that have ended


def _become(connection: Connection) -> None:
    """Be the job at the other end, from its arguments to its exit status."""
    arguments, environment, folder = connection.recv()
    for stream in (1, 2):
        received = recv_handle(connection)
        os.dup2(received, stream)
        os.close(received)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    connection.send("started")
    ended = Event()
    Thread(target=_obey, args=(connection, ended), daemon=True).start()
    status = _exit_status(arguments)
    ended.set()
    connection.send(status)


def _obey(connection: Connection, ended: Event) -> None:
    """Take the signals that the waiting process passes on, and die with it unless all is done."""
    while not ended.is_set():
        try:
            number = connection.recv()
        except (OSError, EOFError):
            if ended.is_set():
                return
            number = signal.SIGKILL
        os.kill(os.getpid(), number)


def _exit_status(arguments: list[str]) -> int:
    """Run the command line; return what a process of its own would have returned."""
    from prunebench.cli import command

    try:
        command.run(arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # of the command: what Python would print and return
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def address(folder: str) -> str:
    """Return the socket of this installation as it is now: no other one must run our jobs.

    After an edit of the sources the server is not found any more.
    """
    package = Path(__file__).parents[1]
    edited = max(path.stat().st_mtime_ns for path in package.rglob("*.py"))
    installation = f"{sys.prefix} {package} {edited}"
    return str(Path(folder) / sha256(installation.encode()).hexdigest()[:16])


if __name__ == "__main__":
    try:
        serve(socket.socket(fileno=int(sys.argv[2])))
    finally:
        shutil.rmtree(sys.argv[1], ignore_errors=True)
