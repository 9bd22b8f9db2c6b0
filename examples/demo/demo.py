#!/usr/bin/env python3
"""The demo's director: a durable work queue lives through the death of its workers and of its node.

    demo.py [FOLDER] [--sabotage] [--jobs N]

Starts a node, producers and workers as processes of their own, kills some of them with SIGKILL while they are at it,
and leaves the account to a verifier (verify.py). Then the same producers and workers run without a node.
It ends only processes it has started itself. Exit status: 0 all is well, 1 the account is off, 2 it could not run.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
BLOCK = 16 * 1024
PRODUCERS, WORKERS, CONCURRENCY = 2, 3, 2
SECONDS_OF_WORK = 6.0  # jobs take so long that the whole is about this much work for all workers
STALLED = 30.0         # seconds without any progress after which we stop waiting and let the verifier speak
QUEUE = "blocks"       # as in block_job.hpp
CONFIGURATION = f"""\
[queue.{QUEUE}]
max_attempts = 5
backoff = exponential
backoff_min = 50ms
backoff_max = 500ms
lease = 2s
"""
NOT_SOURCE = re.compile(r"^(\.git|\.cache|build|build-.*|posthorn-data|__pycache__)$")


class Failure(Exception):
    """Something is off; the text is for the person at the terminal."""


def say(text=""):
    print(text, flush=True)


# -- The plan: one job per block, repeated until there are enough ----------------------------------------------------


def blocks_below(folder, skip):
    for directory, names, files in os.walk(os.fsencode(folder)):
        names[:] = sorted(name for name in names if not (skip and skip.match(os.fsdecode(name))))
        for name in sorted(files):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode):
                continue
            if not os.access(path, os.R_OK):
                say(f"  skipped, not readable: {os.fsdecode(path)}")
                continue
            for offset in range(0, info.st_size, BLOCK):
                yield os.path.relpath(path, os.fsencode(folder)), offset, min(BLOCK, info.st_size - offset)


def fate(number):
    if number % 50 == 7:
        return "fails-twice"
    return {99: "never-passes", 199: "rejected"}.get(number % 250, "passes")


def write_plan(path, folder, skip, least):
    """Returns what becomes of each job by its number."""
    blocks = list(blocks_below(folder, skip))
    if not blocks:
        raise Failure(f"{folder} has no readable, non-empty file; name another FOLDER")
    rounds = -(-least // len(blocks))
    fates = [fate(number) for number in range(rounds * len(blocks))]
    with open(path, "wb") as plan:
        for number, what in enumerate(fates):
            name, offset, length = blocks[number % len(blocks)]
            plan.write(b"%d %s %d %d %s\0" % (number, what.encode(), offset, length, name))
    say(f"{len(blocks):,} blocks of up to 16 KiB below {folder}, {rounds} times over: {len(fates):,} jobs")
    return fates


# -- Processes -------------------------------------------------------------------------------------------------------


class Process:
    """One process of the demo. In a session of its own, so that Ctrl-C reaches the director alone."""

    def __init__(self, name, command, log):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.said_before = out.tell()
            self.handle = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)

    def said(self, pattern):
        with open(self.log, "rb") as log:
            log.seek(self.said_before)
            return re.search(pattern, log.read().decode(errors="replace"))

    def wait_until_said(self, pattern, timeout=10.0):
        deadline = time.monotonic() + timeout
        while not (found := self.said(pattern)):
            self.must_run_or_be_done()
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} did not say {pattern!r} within {timeout:.0f} s{self.last_words()}")
            time.sleep(0.01)
        return found

    def last_words(self):
        lines = pathlib.Path(self.log).read_text(errors="replace").splitlines()[-10:]
        return "".join(f"\n    {self.name}: {line}" for line in lines)

    def must_run_or_be_done(self):
        if self.handle.poll() not in (None, 0):
            raise Failure(f"{self.name} ended with {self.handle.returncode}{self.last_words()}")

    def kill(self):
        self.handle.kill()
        self.handle.wait()

    def finish(self, how, timeout=20.0):
        """Asks for an orderly end and insists on one."""
        how()
        try:
            self.handle.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {timeout:.0f} s{self.last_words()}") from None
        self.must_run_or_be_done()

    def terminate(self):
        self.finish(self.handle.terminate)

    def close_input(self):
        self.finish(self.handle.stdin.close)


class Stage:
    """A folder of records, the processes that write them, and what the records say so far."""

    def __init__(self, folder, binaries, source, fates):
        self.folder, self.binaries, self.source, self.fates = folder, binaries, source, fates
        self.folder.mkdir()
        self.processes = []  # all that were ever started
        self.nodes, self.producers, self.workers = [], [], []  # those that are meant to be alive
        self.offsets = {}
        self.sent, self.confirmed, self.done, self.begun = set(), set(), set(), {}
        self.workers_started = 0
        self.shown = 0.0

    def start(self, name, program, *arguments):
        process = Process(name, [self.binaries / program, *arguments], self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def start_producer(self, home, plan, share):
        name = f"producer-{share + 1}"
        rate = len(self.fates) / PRODUCERS / SECONDS_OF_WORK
        self.producers.append(self.start(
            name, "demo_producer", home, plan, share, PRODUCERS, self.folder / f"{name}.producer", rate))

    def start_worker(self, home):
        self.workers_started += 1
        name = f"worker-{self.workers_started}"
        duration = min(0.02, WORKERS * CONCURRENCY * SECONDS_OF_WORK / len(self.fates))
        self.workers.append(self.start(
            name, "demo_worker", home, self.source, self.folder / f"{name}.worker", CONCURRENCY, int(duration * 1e6)))

    def stop_everything(self):
        for process in self.processes:
            if process.handle.poll() is None:
                process.kill()

    # What the records say

    def read_records(self):
        for path in self.folder.iterdir():
            if path.suffix in (".producer", ".worker"):
                offset = self.offsets.get(path, 0)
                with open(path, "rb") as file:
                    file.seek(offset)
                    new = file.read()
                new = new[:new.rfind(b"\n") + 1]
                self.offsets[path] = offset + len(new)
                for line in new.decode().splitlines():
                    self.take(path.stem, line.split())

    def take(self, who, words):
        event, number = words[0], int(words[1])
        if event == "sent":
            self.sent.add(number)
        elif event == "confirmed":
            self.confirmed.add(number)
        elif event == "begun":
            self.begun.setdefault(who, set()).add(number)
        else:
            self.begun[who].discard(number)
            if event == "done":
                self.done.add(number)

    def in_hand(self):
        """Jobs begun without an outcome yet, by those workers that live."""
        return set().union(*(self.begun.get(worker.name, set()) for worker in self.workers))

    def look(self, note=""):
        """Reads what is new, shows it, and fails if a process has ended that should not have."""
        self.read_records()
        for process in [*self.nodes, *self.producers, *self.workers]:
            process.must_run_or_be_done()
        now = time.monotonic()
        if note or now - self.shown > (0.1 if sys.stdout.isatty() else 1.0):
            self.shown = now
            text = f"  sent {len(self.sent):,}, confirmed {len(self.confirmed):,}, done {len(self.done):,} of {len(self.fates):,}"
            if sys.stdout.isatty():
                print(f"\r\033[K{text}", end=f"\n  {note}\n" if note else "", flush=True)
            else:
                say(text + (f"\n  {note}" if note else ""))

    def wait_for_done(self, count):
        """Until so many jobs are done; False when nothing has moved for a long time."""
        moved, before = time.monotonic(), -1
        while len(self.done) < count:
            self.look()
            if (now_done := len(self.sent) + len(self.done)) != before:
                moved, before = time.monotonic(), now_done
            if time.monotonic() - moved > STALLED:
                return False
            time.sleep(0.02)
        return True

    # Faults. Each is repeated until it is certain that it hit messages in flight.

    def kill_a_worker(self, home):
        for _ in range(10):
            victim = self.workers.pop(0)
            deadline = time.monotonic() + 10
            while not self.begun.get(victim.name) and time.monotonic() < deadline:
                self.read_records()
            victim.kill()
            self.read_records()
            self.start_worker(home)
            if jobs := self.begun.get(victim.name):
                listed = ", ".join(str(job) for job in sorted(jobs))
                self.look(f"SIGKILL to {victim.name} (pid {victim.handle.pid}) in the middle of job {listed}; "
                          f"{self.workers[-1].name} starts")
                return
        raise Failure("killed ten workers and none of them was in the middle of a job")

    def signal_workers(self, which):
        for worker in self.workers:
            if worker.handle.poll() is None:
                worker.handle.send_signal(which)

    def evidence_of_load(self):
        """Jobs in workers' hands and messages not confirmed, as the records say."""
        self.read_records()
        return len(self.in_hand()), len(self.sent - self.confirmed)

    # The command

    def listing(self, node, *verb):
        command = [str(self.binaries / "posthorn"), *verb, "--json", "--node", node]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise Failure(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_for_dead_letters(self, nodes):
        """The dead letters of all hosts, as soon as there are as many as the plan has jobs that never pass."""
        expected = sum(what in ("never-passes", "rejected") for what in self.fates)
        deadline = time.monotonic() + STALLED
        while True:
            letters = [letter for node in nodes for letter in self.listing(node, "dlq", "list", QUEUE)]
            if len(letters) >= expected or time.monotonic() > deadline:
                return letters
            self.look()
            time.sleep(0.2)


class Node:
    """The node and its folder, which outlives it."""

    def __init__(self, stage):
        self.stage = stage
        self.configuration = stage.folder / "node.ini"
        self.configuration.write_text(CONFIGURATION)
        self.endpoint = "tcp://127.0.0.1:*"
        self.start()

    def start(self):
        self.process = self.stage.start("node", "posthorn", "node", "--bind", self.endpoint, "--config",
                                        self.configuration, "--data", self.stage.folder / "data")
        self.stage.nodes = [self.process]
        self.endpoint = self.process.wait_until_said(r"ready on (tcp://\S+:\d+)").group(1)

    def kill(self):
        """SIGKILL under load, then the same again on the same data. The workers stand still for that moment, so that
        what is in their hands is known and not guessed."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            self.stage.signal_workers(signal.SIGSTOP)
            try:
                in_hand, unconfirmed = self.stage.evidence_of_load()
                if in_hand == 0:
                    continue
                pid = self.process.handle.pid
                self.process.kill()
            finally:
                self.stage.signal_workers(signal.SIGCONT)
            time.sleep(0.5)  # long enough for everyone to notice
            self.start()
            self.stage.look(f"SIGKILL to the node (pid {pid}): {in_hand} jobs in workers' hands, "
                            f"{unconfirmed} not confirmed; it starts on the same data")
            return
        raise Failure("never in 10 s was a job in a worker's hands")


# -- The two acts ----------------------------------------------------------------------------------------------------


def passing(fates):
    return sum(what in ("passes", "fails-twice") for what in fates)


def at_a_node(stage, plan):
    say(f"\nAt a node: {PRODUCERS} producers, {WORKERS} workers with {CONCURRENCY} handlers each, the queue on disk")
    node = Node(stage)
    home = f"at:{node.endpoint}"
    for share in range(PRODUCERS):
        stage.start_producer(home, plan, share)
    for _ in range(WORKERS):
        stage.start_worker(home)
    faults = ((0.20, lambda: stage.kill_a_worker(home)), (0.40, node.kill), (0.60, lambda: stage.kill_a_worker(home)),
              (0.75, node.kill))
    for part, fault in faults:
        if not stage.wait_for_done(int(passing(stage.fates) * part)):
            raise Failure(f"nothing has moved for {STALLED:.0f} s")
        fault()
    stage.wait_for_done(passing(stage.fates))
    letters = stage.wait_for_dead_letters([node.endpoint])
    stage.look("every worker and producer is asked to finish, then the node")
    for producer in stage.producers:
        producer.close_input()
    for worker in stage.workers:
        worker.terminate()
    node.process.terminate()
    return letters


def brokerless(stage, plan):
    say(f"\nWithout a node: the same programs; each of {PRODUCERS} producers is host of its own jobs, in memory")
    for share in range(PRODUCERS):
        stage.start_producer("here:tcp://127.0.0.1:*", plan, share)
    endpoints = [p.wait_until_said(r"ready on (tcp://\S+:\d+)").group(1) for p in stage.producers]
    home = "at:" + ",".join(endpoints)
    for _ in range(WORKERS):
        stage.start_worker(home)
    if not stage.wait_for_done(int(passing(stage.fates) * 0.5)):
        raise Failure(f"nothing has moved for {STALLED:.0f} s")
    stage.kill_a_worker(home)
    stage.wait_for_done(passing(stage.fates))
    letters = stage.wait_for_dead_letters(endpoints)
    stage.look("every worker is asked to finish, then the producers")
    for worker in stage.workers:
        worker.terminate()
    for producer in stage.producers:
        producer.close_input()
    return letters


def sabotage(folder):
    """Takes the only result of one job out of its worker's record."""
    results = [(path, line) for path in sorted(folder.glob("*.worker")) for line in path.read_text().splitlines()
               if line.startswith("done ")]
    number = lambda line: line.split()[1]
    counted = [number(line) for _, line in results]
    path, line = next((path, line) for path, line in results if counted.count(number(line)) == 1)
    path.write_text(path.read_text().replace(line + "\n", "", 1))
    say(f"  sabotage: the result of job {number(line)} is taken out of {path.name}; the account must show it")


def verify(stage, plan, letters):
    """True if the separate verifier agrees."""
    dead_letters = stage.folder / "dead-letters.json"
    dead_letters.write_text("".join(json.dumps(letter) + "\n" for letter in letters))
    say("\nThe account, from the records of the processes and the files themselves:")
    return subprocess.run([sys.executable, HERE / "verify.py", "--plan", plan, "--folder", stage.source,
                           "--records", stage.folder, "--dead-letters", dead_letters], check=False).returncode == 0


def play(options, scratch):
    source = (options.folder or PROJECT).resolve()
    plan = scratch / "plan"
    fates = write_plan(plan, source, None if options.folder else NOT_SOURCE, options.jobs)
    for name, act in (("node", at_a_node), ("brokerless", brokerless)):
        stage = Stage(scratch / name, options.bin, source, fates)
        try:
            letters = act(stage, plan)
        finally:
            stage.stop_everything()
        if options.sabotage:
            sabotage(stage.folder)
        if not verify(stage, plan, letters):
            return False
    return True


def main():
    parser = argparse.ArgumentParser(prog="./run demo", description="A work queue that survives its workers and its node.")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help="whose files are worked on; default: this project")
    parser.add_argument("--sabotage", action="store_true", help="lose one result on purpose: the account must be off")
    parser.add_argument("--jobs", type=int, default=3000, help="at least so many; default 3000")
    parser.add_argument("--bin", type=pathlib.Path, default=PROJECT / "build/bin", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder and not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")

    def interrupted(number, _frame):
        raise KeyboardInterrupt(signal.Signals(number).name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)

    scratch = pathlib.Path(tempfile.mkdtemp(prefix="posthorn-demo-"))
    status, started = 2, time.monotonic()
    try:
        status = 0 if play(options, scratch) else 1
    except Failure as failure:
        say(f"\ndemo: {failure}")
    except KeyboardInterrupt as why:
        say(f"\ndemo: stopped by {why}; every process it had started has ended")
    if status == 0 or (status == 1 and options.sabotage):
        shutil.rmtree(scratch)
    else:
        say(f"demo: what the processes wrote is kept in {scratch}")
    if status == 0:
        say(f"\nAll is well, after {time.monotonic() - started:.0f} s.")
    return status


if __name__ == "__main__":
    sys.exit(main())
