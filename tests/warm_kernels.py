"""Kernels for the lessons of a test run, forked from one process that has imported what lessons import.

    python warm_kernels.py serve SOCKET            import everything once, then fork a kernel for each caller
    python warm_kernels.py SOCKET CONNECTION_FILE  what Jupyter starts: asks for a kernel, and lives as long as it does

To import all of that takes six to seven seconds of processor time, which a lesson that needs most of it would spend.
"""

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

NAME = "warm"  # of the kernel, for Jupyter
LOOK_SECONDS = 2.0  # between two looks whether the parent still lives
IMPORTED = (
    *("distributed", "fastapi", "hamilton.driver", "httpx", "matplotlib.pyplot", "pandera.pandas", "scipy.stats"),
    *("mlflow.sklearn", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("skops.io", "uvicorn", "ipykernel.kernelapp", "matplotlib_inline.backend_inline"),
    *("mlops_course.course.checks", "mlops_course.system.cluster", "mlops_course.system.readiness"),
    *("mlops_course.system.replay", "mlops_course.system.release", "mlops_course.system.governance"),
)


def start(folder):
    """Start the process that forks kernels, tell Jupyter of them by files in `folder`, and return the process."""
    address, kernel = Path(folder, "kernels.sock"), Path(folder, "jupyter", "kernels", NAME)
    kernel.mkdir(parents=True)
    asked = [sys.executable, "-S", __file__, str(address), "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": asked, "display_name": NAME, "language": "python"}), encoding="utf-8"
    )
    os.environ["JUPYTER_PATH"] = str(kernel.parents[1])
    return subprocess.Popen([sys.executable, __file__, "serve", str(address)], stdin=subprocess.DEVNULL)


def serve(address):
    """Import everything, then fork for each caller until the parent has died."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()  # before the imports: who calls early waits
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # read by matplotlib on its import
        for module in IMPORTED:
            importlib.import_module(module)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that attend
        while os.getppid() == parent:
            if select.select([server], [], [], LOOK_SECONDS)[0]:
                caller, _ = server.accept()
                if os.fork() == 0:
                    server.close()
                    attend(caller)
                    return
                caller.close()


def attend(caller):
    """Fork a kernel, pass interrupts on to it, end it when its caller is gone, and tell the caller how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    said = caller.makefile()
    asked = json.loads(said.readline())
    kernel = os.fork()
    if kernel == 0:
        caller.detach()
        run_kernel(asked)
        return

    def listen():
        for _ in said:
            os.kill(kernel, signal.SIGINT)
        os.kill(kernel, signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(kernel, 0)[1])
    with suppress(OSError):  # a caller that has not waited
        caller.sendall(f"{code}\n".encode())
    os._exit(0)


def run_kernel(asked):
    """Be a kernel that looks as if it had been started by its caller."""
    import pandas as pd
    from ipykernel.kernelapp import IPKernelApp

    pd.set_option("display.max_columns", 20)  # as where pandas finds itself in a notebook on its import
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.environ.pop("JPY_PARENT_PID", None)  # the caller looks after that
    os.chdir(asked["cwd"])
    with open(os.devnull, "w") as nowhere:  # what a kernel says beside its notebook
        os.dup2(nowhere.fileno(), 1), os.dup2(nowhere.fileno(), 2)
    sys.path[:] = [folder for folder in sys.path if Path(folder) != Path(__file__).parent]
    sys.argv = ["ipykernel_launcher.py", "-f", asked["connection_file"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    IPKernelApp.launch_instance(sys.argv[1:])


def ask(address, connection_file):
    """Ask for a kernel and live as long as it and the parent do; ends with the kernel's exit code."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        signal.signal(signal.SIGINT, lambda *_: server.sendall(b"interrupt\n"))
        asked = {"connection_file": connection_file, "cwd": os.getcwd(), "environ": dict(os.environ)}
        server.sendall(json.dumps(asked).encode() + b"\n")
        while os.getppid() == parent:
            if select.select([server], [], [], LOOK_SECONDS)[0]:
                sys.exit(int(server.recv(16) or 1))


if __name__ == "__main__":
    first, second = sys.argv[1:]
    if first == "serve":
        serve(second)
    else:
        ask(first, second)
