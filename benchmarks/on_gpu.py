"""Everything that needs a GPU, in one call of limited time; each part is saved as it ends.

    python benchmarks/on_gpu.py --data-dir data --out gpu --minutes 7

tests    the tests marked `gpu`
step     training_speed.py step, ResNet-20 and -56
epoch    training_speed.py epoch, ResNet-20 and -56, 50,000 images
latency  a pruned ResNet-56 and a pruned ResNet-50 against their bases: our protocol, and the usual
         one (fixed warm-up, a synchronization after each pass, no flush of the L2 cache, mean)
greg     GReg's Table 1, ResNet-56 at ratio 0.5 (`l1` and `greg_1`) on CIFAR-10 by the printed
         recipe, until time is up; its last checkpoint is in --out, and the same call continues it

The parts run in this order, each in a process of its own that ends when time is up. `data_dir`
holds a copy of CIFAR-10. What a part prints goes to <out>/<part>.txt; environment.txt names device
and versions. With `--device cpu --few-steps` each part takes a few steps, the last one on digits.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.experiments.results import Mode
from prunebench.measure.device import device_name
from prunebench.measure.latency import compare_latency
from prunebench.models.registry import build

HERE = Path(__file__).resolve().parent
PARTS = ("tests", "step", "epoch", "latency", "greg")
SECONDS_TO_SAVE = 20  # between SIGTERM, at which training writes a checkpoint, and SIGKILL
LATENCIES = (("resnet56", 10, (3, 32, 32)), ("resnet50", 1000, (3, 224, 224)))


class Table(NamedTuple):
    """The runs of the last part: `l1` and `greg_1` at one ratio."""

    experiment: str
    dataset: str
    network: str
    base: str  # recipe
    ratio: str


TABLE = Table("greg_table1_resnet56", "cifar10", "resnet56", "greg_cifar10_base", "0.5")
FEW_STEPS = Table("digits", "digits", "resnet20", "digits_base", "0.75")


def usual_ms(model: nn.Module, images: Tensor, repeats: int) -> tuple[float, float]:
    """Return mean and standard deviation (ms) of a forward pass as pruning tools measure it."""
    times = []
    with torch.inference_mode():
        for _ in range(max(2, repeats // 4)):
            model(images)
        for _ in range(repeats):
            if images.device.type == "cuda":
                start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                start.record()
                model(images)
                end.record()
                torch.cuda.synchronize()
                times.append(start.elapsed_time(end))
            else:
                began = time.perf_counter()
                model(images)
                times.append(1000 * (time.perf_counter() - began))
    return statistics.fmean(times), statistics.stdev(times)


def latency(options: argparse.Namespace) -> None:
    """Print the latencies of networks that lost half of each group, and of their bases."""
    device, repeats = torch.device(options.device), 4 if options.few_steps else 100
    modes: tuple[Mode, ...] = ("eager", "graph") if device.type == "cuda" else ("eager",)
    print("| network | batch | protocol | base, ms | pruned, ms | speedup |")
    print("|---|---|---|---|---|---|")
    for name, classes, shape in LATENCIES:
        base = build(name, num_classes=classes).eval()
        graph = trace(base, torch.zeros(1, *shape))
        half = {
            group.name: torch.arange(group.n_units // 2)
            for group in graph.groups.values()
            if not group.frozen and group.n_units > 1
        }
        pruned = remove(base, graph, half).eval()
        for batch in (1,) if options.few_steps else (1, 64):
            ours = {
                mode: compare_latency(
                    base,
                    pruned,
                    shape,
                    batch_size=batch,
                    device=device,
                    repeats=repeats,
                    warmup=repeats // 2,
                    mode=mode,
                )
                for mode in modes
            }
            images = torch.randn(batch, *shape, device=device)
            usual = [usual_ms(model.to(device), images, repeats) for model in (base, pruned)]
            cells = (
                *(
                    (
                        f"ours, {mode}, median [quartiles]{', unstable' * bool(one.unstable)}",
                        f"{one.base_median_ms:.3f} [{one.base_q25_ms:.3f}, {one.base_q75_ms:.3f}]",
                        f"{one.median_ms:.3f} [{one.q25_ms:.3f}, {one.q75_ms:.3f}]",
                        one.speedup,
                    )
                    for mode, one in ours.items()
                ),
                (
                    "usual, mean ± sd",
                    *(f"{mean:.3f} ± {sd:.3f}" for mean, sd in usual),
                    usual[0][0] / usual[1][0],
                ),
            )
            for protocol, *times, speedup in cells:
                print(
                    f"| {name} | {batch} | {protocol} | {' | '.join(times)} | {speedup:.2f} |",
                    flush=True,
                )


def environment(device: str) -> str:
    """Return device and versions, a line each."""
    lines = [
        f"date    {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"device  {device_name(torch.device(device))}",
        f"python  {platform.python_version()}",
        f"torch   {torch.__version__}, CUDA {torch.version.cuda}, "
        f"cuDNN {torch.backends.cudnn.version()}",
    ]
    if device == "cuda":
        query = "driver_version,clocks.max.sm,clocks.sm,power.limit"
        asked = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        found = subprocess.run(asked, capture_output=True, text=True, check=True)
        lines.append(f"{query}  {found.stdout.strip()}")
    return "".join(f"{line}\n" for line in lines)


def commands(part: str, options: argparse.Namespace) -> list[list[str]]:
    """Return the commands of a part, one after the other."""
    few, device = options.few_steps, ["--device", options.device]
    python = [sys.executable]
    speed = [*python, str(HERE / "training_speed.py")]
    networks = ["--networks", "resnet20", "resnet56"]
    short = ["--batch-size", "8", "--repeats", "1"] if few else []
    match part:
        case "tests":
            return [[*python, "-m", "pytest", "-n", "0", "-m", "gpu", "-q"]]
        case "step":
            return [[*speed, "step", *device, *networks, *short]]
        case "epoch":
            images = "16" if few else "50000"
            return [[*speed, "epoch", *device, *networks, "--images", images, *short]]
        case "latency":
            own = [*python, __file__, "--only", "latency", *device]
            return [[*own, "--few-steps"] if few else own]
    stage = [*python, "-m", "prunebench"]
    folders = ["--config", str(HERE.parent / "config/config.yaml")]
    folders += ["--results", str(options.out / "results")]
    data = ["--data-dir", str(options.data_dir)]
    table = FEW_STEPS if few else TABLE
    network = ["--dataset", table.dataset, "--architecture", table.network]
    cell = [*network, "--experiment", table.experiment, "--ratio", table.ratio, "--seed", "0"]
    return [
        [*stage, "data", "--dataset", table.dataset, *data, *folders],
        [*stage, "base", *network, "--recipe", table.base, *device, *folders],
        [*stage, "prune", *cell, "--method", "l1", *device, *folders],
        [*stage, "prune", *cell, "--method", "greg_1", *device, *folders],
    ]


def run_until(command: list[str], log: Path, deadline: float) -> int | None:
    """Run a command with its output in `log`; return its exit status, None if time was up."""
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {' '.join(Path(word).name for word in command)}\n")
        output.flush()
        # benchmarks import the package of this checkout; its workers must end with the process
        job = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=HERE.parent,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            return job.wait(max(0.0, deadline - SECONDS_TO_SAVE - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGTERM)
        try:
            job.wait(SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        output.write("stopped: time is up\n")
    return None


def main() -> None:
    """Run the parts in their order; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="with CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of what is saved")
    parser.add_argument("--minutes", type=float, default=7.0, help="of all parts together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--few-steps", action="store_true", help="check the script, on digits")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU; try the script with --device cpu --few-steps")
    if options.only == ["latency"]:
        latency(options)
        return
    deadline = time.monotonic() + 60 * options.minutes
    options.out = options.out.resolve()
    options.data_dir = options.data_dir.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "environment.txt").write_text(environment(options.device))
    failed = []
    for part in options.only:
        log, began = options.out / f"{part}.txt", time.monotonic()
        log.unlink(missing_ok=True)
        status: int | None = 0
        for command in commands(part, options):
            status = run_until(command, log, deadline)
            if status != 0:
                break
        words = {None: "stopped, time is up", 0: "done"}.get(status, f"failed ({status})")
        print(f"{part:<8} {words} · {time.monotonic() - began:.0f} s · {log}", flush=True)
        if status:
            failed.append(part)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
