"""What the measurements of clusters share: nodes that start and stop by pid, their metrics, a run of the harness.

Only the standard library. Everything runs on loopback and ends what it started.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

GRAMME = os.environ.get("GRAMME", os.path.join(os.getcwd(), "target", "release", "gramme"))
DATA = tempfile.mkdtemp(prefix="gramme-cluster-")
_processes = []


@atexit.register
def _end_all():
    for process in _processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    shutil.rmtree(DATA, ignore_errors=True)


# A SIGTERM ends what was started, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_ports(size):
    """The first of `size` neighbouring ports that are free now."""
    while True:
        held = []
        try:
            for port in range(0, size):
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", held[0].getsockname()[1] + port if port else 0))
            return held[0].getsockname()[1]
        except (OSError, OverflowError):
            continue
        finally:
            for s in held:
                s.close()


def until(what, is_so, seconds=120):
    """Wait until something is so; the seconds that took. Exits with `what` when it takes too long."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > seconds:
            sys.exit(f"in vain waited {seconds} s for {what}")
        time.sleep(0.05)
    return time.monotonic() - began


def spawn(argv, log):
    with open(log, "ab") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    _processes.append(process)
    return process


class Node:
    """One `gramme serve` of one shard."""

    def __init__(self, name, more=()):
        if not os.access(GRAMME, os.X_OK):
            sys.exit(f"no gramme binary at {GRAMME}: cargo build --release (or set GRAMME)")
        first = free_ports(4)
        self.name, self.native, self.resp, self.admin = name, first, first + 2, first + 3
        self.data, self.log = os.path.join(DATA, name), os.path.join(DATA, name + ".log")
        self.process, self.more = None, list(more)

    def start(self, seed=None):
        config = os.path.join(DATA, "node.toml")
        with open(config, "w") as f:
            f.write("shards = 1\npin_to_cores = false\nmemory_bytes = 268435456\ncapacity_bytes = 8589934592\n"
                    "segment_bytes = 16777216\n")
        argv = [GRAMME, "serve", "--config", config, "--data", self.data, "--name", self.name, "--zone", self.name,
                "--listen", self.address(), "--resp", f"127.0.0.1:{self.resp}", "--admin", f"127.0.0.1:{self.admin}", *self.more]
        starts = self.starts()
        self.process = spawn(argv + (["--join", seed.address()] if seed else []), self.log)
        until(f"{self.name} to serve; its log is {self.log}", lambda: self.starts() > starts)
        return self

    def address(self):
        return f"127.0.0.1:{self.native}"

    def tail(self):
        try:
            with open(self.log, "rb") as f:
                return f.read()[-600:].decode(errors="replace")
        except FileNotFoundError:
            return ""

    def http(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
            return answer.read().decode()

    def starts(self):
        """How often it has said that it serves; exits when it ended instead. (`/health` says more: also what was damaged.)"""
        if self.process and self.process.poll() not in (None, -signal.SIGKILL):
            sys.exit(f"{self.name} ended: {self.tail()}")
        try:
            with open(self.log, "rb") as f:
                return f.read().count(b"\nready ")
        except FileNotFoundError:
            return 0

    def metrics(self):
        """Name without `gramme_` to the sum over the shards."""
        sums = {}
        for line in self.http("/metrics").splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0].removeprefix("gramme_")
                sums[name] = sums.get(name, 0) + float(value)
        return sums

    def operate(self, *words):
        """A `gramme cluster` command; its answer, or None when it was refused."""
        out = subprocess.run([GRAMME, "cluster", *words, "--json", "--node", self.address()], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return json.loads(out.stdout) if out.returncode == 0 else None

    def is_whole(self, nodes):
        """Whether this node sees so many members alive, all with what they are to hold and nothing more."""
        status = self.operate("status") or {}
        members = [m for m in status.get("members", []) if m["target"] or m["held"]]
        return len(members) == nodes and not status["staged"] and all(
            m["is_alive"] and not m["pending"] and m["held"] == m["target"] for m in members)

    def commit(self):
        """Plan and commit what is staged; the plan."""
        until("a plan", lambda: self.operate("plan"))
        plan = self.operate("plan")
        until("a commit", lambda: self.operate("commit"))
        return plan


def cluster(count, prefix="n", more=()):
    """So many nodes, named by prefix and number, that are one cluster and hold their shares; `more` goes to `serve`."""
    nodes = []
    for number in range(count):
        nodes.append(Node(f"{prefix}{number}", more).start(nodes[0] if nodes else None))
    if count > 1:
        until("the others staged", lambda: len((nodes[0].operate("status") or {}).get("staged", [])) == count - 1)
        nodes[0].commit()
    for node in nodes:
        until("a cluster that is whole", lambda node=node: node.is_whole(count))
    return nodes


def background_bytes(nodes):
    """Bytes that the background work of all nodes has brought from node to node."""
    metrics = [node.metrics() for node in nodes]
    return sum(m["upkeep_pulled_bytes_total"] + m["upkeep_pushed_bytes_total"] for m in metrics)


def cpu_s(processes):
    """Seconds of CPU that these have had."""
    ticks = 0
    for process in processes:
        with open(f"/proc/{process.pid}/stat") as f:
            ticks += sum(int(field) for field in f.read().rsplit(")", 1)[1].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def bench_argv(target, rate, seconds, records, load="never"):
    return [GRAMME, "bench", "run", "--target", target, "--rate", str(rate), "--duration", f"{seconds}s", "--warmup", "1s",
            "--workload", "ycsb-a", "--records", str(records), "--key-bytes", "16", "--value-bytes", "100", "--load", load,
            "--connections", "32", "--arrivals", "poisson", "--json"]


def bench(*args, **options):
    """A run of the harness; its report. Exits when there is none."""
    out = subprocess.run(bench_argv(*args, **options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    if out.returncode not in (0, 1, 3) or not out.stdout:
        sys.exit(f"the harness failed: {out.stderr.decode(errors='replace')[-600:]}")
    return json.loads(out.stdout)


def row(name, report, head=30):
    """A line of a table: percentiles of the time from the intended start, failures, and why the run may not be believed."""
    ms = {p: report["response_us"].get(p) for p in ("p50", "p99", "p99_9")}
    cells = "".join(f"{ms[p] / 1000:10.2f}" if ms[p] is not None else f"{'-':>10}" for p in ms)
    why = "" if report["verdict"] == "valid" else "   INVALID: " + report["reason"]
    return f"{name:{head}}{report['achieved_rate']:9.0f}{report['errors']:8}{cells}{why}"


def heading(name, head=30):
    return f"{name:{head}}{'per s':>9}{'failed':>8}{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}"
