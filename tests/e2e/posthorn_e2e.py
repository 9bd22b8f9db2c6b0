"""What the end-to-end tests share: real processes of the `posthorn` command in a folder of their own.

The binary is $POSTHORN_BIN. Nothing here sleeps to let something happen: one waits until a condition holds, at most
PATIENCE. Only processes that were started here are ended, by their handle. When a test fails, everything its processes
have said is printed.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

BINARY = os.environ["POSTHORN_BIN"]
PATIENCE = 60.0  # seconds; far beyond what anything takes here, on a busy machine and under sanitizers
ANY_PORT = "tcp://127.0.0.1:*"
READY = r"ready on (\S+), data in"


class Process:
    """One process. Its output goes to files, so that nobody has to read it along; unless stdout is a pipe."""

    def __init__(self, name, command, folder, stdin=subprocess.DEVNULL, stdout=None, environment=None):
        self.name, self.command = name, [str(word) for word in command]
        self.out_path, self.err_path = folder / f"{name}.out", folder / f"{name}.err"
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.handle = subprocess.Popen(self.command, stdin=stdin, stdout=stdout or out, stderr=err,
                                           env=environment, cwd=folder, start_new_session=True)

    @property
    def out(self):
        return self.out_path.read_bytes()

    @property
    def err(self):
        return self.err_path.read_text(errors="replace")

    @property
    def lines(self):
        return self.out.decode().splitlines()

    def running(self):
        return self.handle.poll() is None

    def kill(self):
        """kill -9."""
        if self.running():
            self.handle.kill()
        self.handle.wait()
        for pipe in filter(None, (self.handle.stdin, self.handle.stdout)):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def signal(self, number=signal.SIGTERM):
        self.handle.send_signal(number)

    def wait(self, timeout=PATIENCE):
        """The exit status; -N for signal N."""
        try:
            return self.handle.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout:.0f} s") from None

    def wait_until_said(self, pattern, timeout=PATIENCE):
        found = until(lambda: re.search(pattern, self.err) or (None if self.running() else "ended"),
                      f"{self.name} says {pattern!r}", timeout)
        found = found if found != "ended" else re.search(pattern, self.err)
        if not found:
            raise AssertionError(f"{self.name} ended with {self.handle.returncode} and did not say {pattern!r}")
        return found

    def story(self):
        def shortened(text, most=6000):
            return text if len(text) <= most else text[:most // 2] + "\n[...]\n" + text[-most // 2:]
        return (f"--- {self.name}: {shortened(' '.join(self.command), 400)}\n    status {self.handle.poll()}\n"
                f"{shortened(self.err)}"
                + (f"    standard output:\n{shortened(self.out.decode(errors='replace'))}" if self.out else ""))


def until(condition, what, timeout=PATIENCE):
    """Waits until the condition holds and returns what it gave."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.02)


class Node:
    """A node, over its deaths: always the same data folder, configuration and port."""

    def __init__(self, case, config="", data=None, arguments=()):
        self.case, self.data = case, data or case.folder / "data"
        self.arguments = list(arguments)
        if config:
            self.arguments += ["--config", case.write("node.ini", config)]
        self.endpoint = ANY_PORT
        self.process = None
        self.start()

    def start(self):
        """Returns the seconds it took until it was ready."""
        began = time.monotonic()
        self.process = self.case.spawn("node", "--data", self.data, "--bind", self.endpoint, *self.arguments)
        self.endpoint = self.process.wait_until_said(READY).group(1)
        return time.monotonic() - began

    @property
    def port(self):
        return int(self.endpoint.rsplit(":", 1)[1])

    def kill(self):
        self.case.assertTrue(self.process.running(), "the node has ended before it was killed")
        self.process.kill()

    def restart(self):
        self.kill()
        return self.start()

    def stop(self):
        self.process.signal()
        self.case.assertEqual(self.process.wait(), 0, "a node that is told to stop ends with 0")

    def queues(self):
        """What `posthorn queues --json` says, by queue."""
        done = self.case.run_posthorn("queues", "--json", "--node", self.endpoint)
        self.case.assertEqual(done.wait(), 0)
        self.case.processes.remove(done)  # asked again and again while something is waited for: no story worth telling
        return {row["name"]: row for row in map(json.loads, done.lines)}

    def queue(self, name):
        return self.queues()[name]

    def until_queue(self, name, condition, what, timeout=PATIENCE):
        return until(lambda: (row := self.queues().get(name)) and condition(row) and row,
                     f"queue {name}: {what}", timeout)


class Case(unittest.TestCase):
    """A test in a folder of its own."""

    def run(self, result=None):
        with tempfile.TemporaryDirectory(prefix="posthorn-e2e-", ignore_cleanup_errors=True) as name:
            self.folder = pathlib.Path(name)
            self.processes, self.started = [], 0
            before = len(result.failures) + len(result.errors)
            try:
                super().run(result)
            finally:
                stories = [process.story() for process in self.processes]  # before we end those that are left
                for process in reversed(self.processes):
                    process.kill()
            if len(result.failures) + len(result.errors) > before:
                print(f"\n=== what the processes of {self.id()} said", *stories, sep="\n", flush=True)

    def write(self, name, text):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def program(self, command, name, **options):
        self.started += 1
        process = Process(f"{self.started:03}-{name}", command, self.folder, **options)
        self.processes.append(process)
        return process

    def spawn(self, verb, *arguments, **options):
        return self.program([BINARY, verb, *arguments], verb, **options)

    def run_posthorn(self, verb, *arguments, timeout=PATIENCE, **options):
        """Runs it to its end."""
        process = self.spawn(verb, *arguments, **options)
        process.wait(timeout)
        return process

    def feed(self, text):
        """Something to pass as stdin."""
        file = tempfile.TemporaryFile(dir=self.folder)
        self.addCleanup(file.close)
        file.write(text if isinstance(text, bytes) else text.encode())
        file.seek(0)
        return file

    def send(self, node, queue, *texts, lines=None, arguments=()):
        """Sends and expects it to succeed."""
        stdin = subprocess.DEVNULL if lines is None else self.feed("".join(line + "\n" for line in lines))
        done = self.run_posthorn("send", "--node", node.endpoint, *arguments, queue, *texts, stdin=stdin)
        self.assertEqual(done.wait(), 0, "send did not succeed")
        return done

    def work(self, node, queue, *arguments, **options):
        """Works until the queue is empty and expects it to end well."""
        done = self.run_posthorn("work", "--node", node.endpoint, queue, "--until-empty", *arguments, **options)
        self.assertEqual(done.wait(), 0, "work did not succeed")
        return done

    def dlq(self, node, action, queue, *arguments):
        """The rows of `posthorn dlq ... --json`."""
        done = self.run_posthorn("dlq", action, queue, "--json", "--node", node.endpoint, *arguments)
        self.assertEqual(done.wait(), 0, f"dlq {action} did not succeed")
        return [json.loads(line) for line in done.lines]

    def assert_serves(self, node, queue="probe"):
        """The node is alive, and takes and hands out a message."""
        self.assertTrue(node.process.running(), "the node has ended")
        self.send(node, queue, "are you there")
        self.assertEqual(self.work(node, queue).lines, ["are you there"])

    def assert_fails(self, process, status, *patterns):
        """It has ended with the status, and its standard error has all the patterns."""
        self.assertEqual(process.wait(), status, process.err)
        for pattern in patterns:
            self.assertRegex(process.err, pattern)

    def records(self, name):
        """The lines a command of ours has written to a file so far."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


main = unittest.main
