"""A million messages: the node's memory stays bounded, and it is ready again soon after kill -9."""
import pathlib
import time

from posthorn_e2e import Case, Node, main

COUNT = 1_000_000
MIB = 1024 * 1024


def memory(process, what):
    """VmRSS, or VmHWM: the most there ever was."""
    for line in pathlib.Path(f"/proc/{process.handle.pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc has no {what}")


class Memory(Case):
    def assert_bounded(self, node, when):
        most = memory(node.process, "VmHWM")
        print(f"{when}: {most / MIB:.0f} MiB", flush=True)
        self.assertLess(most, 300 * MIB, when)

    def test_a_million(self):
        node = Node(self)
        began = time.monotonic()
        self.assertIn(f"sent {COUNT}", self.send(node, "jobs", "x" * 128, arguments=["--count", COUNT]).err)
        print(f"sent in {time.monotonic() - began:.1f} s", flush=True)
        self.assert_bounded(node, "after sending")
        node.kill()
        ready = node.start()
        print(f"ready again after {ready:.2f} s", flush=True)
        self.assertLess(ready, 5)
        self.assertEqual(node.queue("jobs")["ready"], COUNT)
        self.assert_bounded(node, "after the restart")
        began = time.monotonic()
        self.assertEqual(len(self.work(node, "jobs").lines), COUNT)
        print(f"worked in {time.monotonic() - began:.1f} s", flush=True)
        self.assert_bounded(node, "after working")


if __name__ == "__main__":
    main()
