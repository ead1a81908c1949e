"""Redis' own test suite against a sidecar over its memory: which tests pass, and why others don't.

Usage: redis.py SIDECAR [--write] [SUITE…]

The suite is Debian's (see fetch.sh) and runs as it does against any external server. What doesn't
pass is compared with `redis.tsv`: a test that isn't there fails the run. With --write the file and
the table in docs/compatibility.md are written anew; the reasons of what didn't pass before are kept,
and new ones are to be given by hand where the error itself doesn't say them.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
KNOWN = HERE / "redis.tsv"
PAGE = HERE.parents[2] / "docs/compatibility.md"

# What is run when nothing is named.
QUICK = (
    "type/string type/incr type/hash type/set type/zset type/list bitops expire keyspace scan sort "
    "multi pubsub pubsubshard protocol querybuf quit"
).split()
# What --write runs besides: it takes longer, or there is little for it to find.
LONG = (
    "tracking scripting introspection introspection-2 info slowlog auth other bitfield hyperloglog geo "
    "dump functions acl type/stream"
).split()
# Seconds for a suite.
PATIENCE = 240

# Tests of the server's own process, which their tags tell.
TAGS = {
    "needs:debug": "DEBUG commands",
    "needs:repl": "replication",
    "needs:save": "persistence",
    "needs:reset": "server statistics",
    "needs:config-maxmemory": "settings of a server",
    "external:skip": "another server",
    "large-memory": "gigabytes of memory",
}
# What an error says about its reason.
REASONS = [
    (r"unknown command .(debug|pfdebug|memory)", "DEBUG commands"),
    (r"unknown command .(sync|psync|replconf|replicaof|wait|failover)", "replication"),
    (r"unknown command .(save|bgsave|bgrewriteaof|lastsave|dump|restore)", "persistence"),
    (r"unknown command .x(add|len|range|group|read|info|del|trim)", "no streams"),
    (r"unknown command .pf", "no HyperLogLog"),
    (r"unknown command .geo", "no geo commands"),
    (r"unknown command .(function|fcall)", "no functions"),
    (r"unknown command .acl", "no ACL"),
    (r"unknown command .bitfield", "no BITFIELD"),
    (r"unknown command .(latency|module|cluster|swapdb|move)", "another server"),
    (r"settings are changed in its WarpCluster", "settings of a server"),
    (r"DB index is out of range", "one database"),
    (r"keyspace notifications", "no keyspace notifications"),
    (r"query buffer|qbuf", "figures of a server's memory"),
    (r"SHUTDOWN", "another server"),
    (r"comes to its end|clients state report", "waits for what isn't there"),
]
# What the rest of a suite's tests need, where their errors say something else.
NEEDED = {
    "pubsub": "no keyspace notifications",
    "type/stream": "no streams",
    "functions": "no functions",
    "geo": "no geo commands",
    "dump": "persistence",
    "querybuf": "figures of a server's memory",
}
# Tests that wait for a command that isn't there, and leave the suite's lines in the middle.
WAITS = {"BLPOP": "/B(LPOP|RPOP|LMPOP|LMOVE|ZPOP|ZMPOP)|[Bb]locking|unblock|from the point of view"}


class Run:
    """What came of a suite."""

    def __init__(self):
        self.passed, self.failed, self.left_out = 0, {}, {}

    def says_nothing(self):
        return not (self.passed or self.failed or self.left_out)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(sidecar, folder):
    """A sidecar over its memory; its process and its port."""
    port, metrics = free_port(), free_port()
    manifest = folder / "warp.yaml"
    manifest.write_text(
        "apiVersion: warpcache.dev/v1alpha1\nkind: WarpCluster\nmetadata: {name: suites}\n"
        "spec:\n  bus: {memory: {}}\n  storage: {memory: {}}\n"
        f"  sidecar: {{port: {port}, metricsPort: {metrics}, memoryLimit: 512Mi}}\n"
    )
    log = (folder / "sidecar.log").open("w")
    process = subprocess.Popen([sidecar, "run", "-f", manifest], stdout=log, stderr=log)
    for _ in range(1000):
        with socket.socket() as line:
            if line.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        time.sleep(0.01)
    sys.exit(f"suites: the sidecar doesn't listen; {(folder / 'sidecar.log').read_text()}")


def prepare(folder):
    """A copy of the suite, whose harness has read external.tcl."""
    source = subprocess.run([HERE / "fetch.sh"], check=True, stdout=subprocess.PIPE, text=True)
    suite = folder / "redis"
    suite.mkdir()
    fetched = Path(source.stdout.strip())
    shutil.copytree(fetched / "tests", suite / "tests")
    shutil.copy(fetched / "runtest", suite)
    (suite / "src").mkdir()
    helper = suite / "tests/test_helper.tcl"
    text = helper.read_text()
    mark = "\nproc reconnect "
    if mark not in text:
        sys.exit("suites: the harness is another one than external.tcl is made for")
    helper.write_text(text.replace(mark, f"\nsource {HERE}/external.tcl\n{mark}", 1))
    return suite


def knows(port, command):
    """Whether the sidecar has a command of that name."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(f"COMMAND INFO {command}\r\n".encode())
        return not line.recv(64).startswith((b"*1\r\n*-1", b"*1\r\n$-1", b"*1\r\n_"))


def harness(command, suite):
    """What the harness says; it is ended with all its clients when it takes too long."""
    process = subprocess.Popen(
        command, cwd=suite, text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        return process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0] + "[err]: the suite comes to its end in tests/unit/x\n"


def run(sidecar, suite, name, tries=3):
    """Runs one file of tests against a sidecar of its own."""
    for _ in range(tries):
        found, output = run_once(sidecar, suite, name)
        # The harness takes a port unasked, which may be somebody else's.
        if not found.says_nothing():
            return found
    sys.exit(f"suites: {name} says nothing: {output[-2000:]}")


def run_once(sidecar, suite, name):
    with tempfile.TemporaryDirectory() as folder:
        process, port = start(sidecar, Path(folder))
        try:
            tags = " ".join(f"-{tag}" for tag in TAGS)
            command = ["./runtest", "--host", "127.0.0.1", "--port", str(port), "--singledb"]
            command += ["--durable", "--ignore-digest", "--ignore-encoding", "--tags", tags]
            # Its own lines, so that suites may run side by side.
            command += ["--baseport", str(random.randrange(10_000, 30_000, 64)), "--timeout", "30"]
            command += ["--single", f"unit/{name}"]
            for needed, tests in WAITS.items():
                if not knows(port, needed):
                    command += ["--skiptest", tests]
            output = harness(command, suite)
        finally:
            alive = process.poll() is None
            process.send_signal(signal.SIGTERM)
            process.wait()
    if not alive:
        sys.exit(f"suites: the sidecar ended by itself in {name}")
    output = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return read(output), output


def read(output):
    found = Run()
    for part in re.split(r"(?m)^(?=\[(?:ok|err|ignore|exception|skip|timeout)\])", output):
        kind = re.match(r"\[(\w+)\]:? ?(.*)", part)
        if not kind:
            continue
        what = kind[2].strip()
        if kind[1] == "ok":
            found.passed += 1
        elif kind[1] in ("err", "exception", "timeout"):
            title = re.sub(r" in tests/unit/\S+$", "", what)
            # Random data and times are no part of a name.
            title = re.sub(r"\s+", " ", title)[:120]
            found.failed[title] = next(
                (group for pattern, group in REASONS if re.search(pattern, part, re.I)), ""
            )
        elif kind[1] == "ignore":
            group = next((group for tag, group in TAGS.items() if tag in part), "another server")
            found.left_out[group] = found.left_out.get(group, 0) + 1
        elif kind[1] == "skip":
            found.left_out["no blocking commands"] = found.left_out.get("no blocking commands", 0) + 1
    return found


def known():
    rows = [line.split("\t") for line in KNOWN.read_text().splitlines() if line[:1] not in ("", "#")]
    return {(suite, title): reason for suite, title, reason in rows} if rows else {}


def write(results, reasons):
    lines = ["# Tests of Redis' suite that don't pass over the memory storage: suite, test, why.\n"]
    for suite, found in results.items():
        for title, group in found.failed.items():
            reason = reasons.get((suite, title)) or group or NEEDED.get(suite, "?")
            lines.append(f"{suite}\t{title}\t{reason}\n")
    KNOWN.write_text("".join(lines))
    reasons = known()
    table = ["| suite | passes | doesn't pass, and why | left out |\n| --- | --- | --- | --- |\n"]
    gaps = []
    for suite, found in results.items():
        groups = {}
        for title in found.failed:
            reason = reasons[suite, title]
            group = reason.split(":")[0]
            groups[group] = groups.get(group, 0) + 1
            if group == "gap":
                gaps.append(f"- `{suite}`, {title}: {reason[4:].strip()}\n")
        said = lambda counts: ", ".join(f"{n} {group}" for group, n in sorted(counts.items())) or "–"
        table.append(f"| {suite} | {found.passed} | {said(groups)} | {said(found.left_out)} |\n")
    total = sum(found.passed for found in results.values())
    table.append(f"| all | {total} | {sum(len(f.failed) for f in results.values())} | |\n")
    text = PAGE.read_text()
    for mark, part in (("table", table), ("gaps", gaps or ["None known.\n"])):
        begin, end = f"<!-- {mark} of redis.py -->\n", f"<!-- end of {mark} -->"
        before, _, rest = text.partition(begin)
        text = before + begin + "\n" + "".join(part) + "\n" + end + rest.partition(end)[2]
    PAGE.write_text(text)


def main():
    arguments = sys.argv[1:]
    writes = "--write" in arguments
    sidecar, *suites = [argument for argument in arguments if argument != "--write"]
    sidecar = Path(sidecar).resolve()
    reasons, results, worse = known(), {}, []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as threads:
        suite = prepare(Path(folder))

        def one(name):
            started = time.monotonic()
            found = run(sidecar, suite, name)
            new = [title for title in found.failed if (name, title) not in reasons]
            if new and not writes:
                # A busy machine fails those that are timed.
                again = run(sidecar, suite, name)
                new = [title for title in new if title in again.failed]
            print(f"{name}: {found.passed} passed, {len(found.failed)} failed, "
                  f"{sum(found.left_out.values())} left out, {time.monotonic() - started:.0f} s", flush=True)
            return found, [f"{name}: {title}" for title in new]

        names = suites or QUICK + (LONG if writes else [])
        for name, (found, new) in zip(names, threads.map(one, names)):
            results[name] = found
            worse += new
    if writes:
        write(results, reasons)
        return
    better = [key for key in reasons if key[0] in results and key[1] not in results[key[0]].failed]
    for suite, title in better:
        print(f"passes now (make suites WRITE=1): {suite}: {title}")
    if worse:
        sys.exit("don't pass and are not in redis.tsv:\n  " + "\n  ".join(worse))
    print(f"{sum(found.passed for found in results.values())} passed, 0 failed")


main()
