"""Long backlogs: the node's memory stays bounded, it is ready again soon after kill -9, and what can be done is done.

The promise is for ten million messages: POSTHORN_MESSAGES=10000000 ctest --test-dir build -R e2e_memory -V
"""
import os
import pathlib
import time

from posthorn_e2e import Case, Node, main

COUNT = int(os.environ.get("POSTHORN_MESSAGES", 300_000))  # more than the node keeps in memory
MIB = 1024 * 1024
READY = 5  # seconds, after kill -9
PATIENCE = 120 + COUNT / 20_000


def memory(process, what):
    """VmRSS, or VmHWM: the most there ever was."""
    for line in pathlib.Path(f"/proc/{process.handle.pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc has no {what}")


class Memory(Case):
    def fill(self, node, count=COUNT, *arguments):
        began = time.monotonic()
        sender = self.spawn("send", "--node", node.endpoint, "jobs", "x" * 128, "--count", str(count), *arguments)
        self.assertEqual(sender.wait(PATIENCE), 0)
        print(f"sent in {time.monotonic() - began:.1f} s", flush=True)

    def take(self, node, count, what):
        began = time.monotonic()
        worker = self.program([os.environ["POSTHORN_BACKLOG_WORKER"], node.endpoint, "jobs", str(count), what], "worker")
        self.assertEqual(worker.wait(PATIENCE), 0)
        print(f"taken in {time.monotonic() - began:.1f} s", flush=True)

    def assert_bounded(self, node, when):
        most = memory(node.process, "VmHWM")
        print(f"{when}: {most / MIB:.0f} MiB", flush=True)
        self.assertLess(most, 300 * MIB, when)

    def assert_survives(self, node, **counts):
        """That the node is bounded as it stands and ready again after kill -9, with all it had."""
        self.assertEqual({name: node.queue("jobs")[name] for name in counts}, counts)
        self.assert_bounded(node, "before kill -9")
        node.kill()
        ready = node.start()
        print(f"ready again after {ready:.2f} s", flush=True)
        self.assertLess(ready, READY)
        self.assertEqual({name: node.queue("jobs")[name] for name in counts}, counts)

    def assert_goes_on(self, node):
        self.send(node, "jobs", "new")
        self.assertEqual(self.work(node, "jobs", "--count", "1").lines, ["new"])
        self.assert_bounded(node, "at the end")

    def test_all_ready(self):
        node = Node(self)
        self.fill(node)
        self.assert_survives(node, ready=COUNT)
        began = time.monotonic()
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--until-empty")
        self.assertEqual(worker.wait(PATIENCE), 0)
        self.assertEqual(len(worker.lines), COUNT)
        print(f"worked in {time.monotonic() - began:.1f} s", flush=True)
        self.assert_bounded(node, "at the end")

    def test_all_delayed(self):
        node = Node(self)
        self.fill(node, COUNT, "--delay", "1h")
        self.assert_survives(node, waiting=COUNT)
        self.assert_goes_on(node)

    def test_all_in_retry(self):
        node = Node(self)
        self.fill(node)
        self.take(node, COUNT, "fail")
        self.assert_survives(node, waiting=COUNT)
        self.assert_goes_on(node)

    def test_one_percent_stuck(self):
        node = Node(self)
        self.fill(node)
        self.take(node, COUNT, "stick")
        self.assert_survives(node, waiting=COUNT // 100, ready=0)
        self.assert_goes_on(node)

    def test_one_key_blocked(self):
        node = Node(self)
        self.fill(node, COUNT // 2, "--key", "a")
        self.fill(node, COUNT // 2)
        self.take(node, COUNT // 2 + 1, "block")
        self.assert_survives(node, ready=COUNT // 2, in_flight=0)


if __name__ == "__main__":
    main()
