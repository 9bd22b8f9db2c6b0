"""The client of examples/python, which was written from docs/protocol.md alone, against a real node and the command."""
import collections
import os
import pathlib
import signal
import subprocess
import time

from posthorn_e2e import Case, Node, main, until

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "python"


class PythonClient(Case):
    def python(self, program, node, *arguments, **options):
        # The tests run with python3 -B; its children must leave nothing in the source tree either.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "POSTHORN_NODE": node.endpoint}
        return self.program(["/usr/bin/python3", EXAMPLES / program, *arguments], program, environment=environment,
                            **options)

    def python_send(self, node, queue, lines):
        done = self.python("send.py", node, queue, stdin=self.feed("".join(line + "\n" for line in lines)))
        self.assertEqual(done.wait(), 0)
        self.assertIn(f"sent {len(lines)}\n", done.err)

    def python_work(self, node, queue, count):
        """Works off so many and ends in order."""
        worker = self.python("work.py", node, queue)
        until(lambda: len(worker.lines) >= count, f"{count} jobs are done")
        worker.signal()
        self.assertEqual(worker.wait(), 0)
        return worker.lines

    def test_send_with_python_work_with_the_command(self):
        node = Node(self)
        sent = [f"job {number}" for number in range(2000)]
        self.python_send(node, "jobs", sent)
        self.assertTrue(self.work(node, "jobs").lines == sent, "each once, in order")

    def test_send_with_the_command_work_with_python(self):
        node = Node(self)
        sent = [f"job {number}" for number in range(2000)]
        self.send(node, "jobs", lines=sent)
        self.assertTrue(self.python_work(node, "jobs", 2000) == sent, "each once, in order")
        row = node.queue("jobs")
        self.assertEqual((row["acked"], row["ready"], row["in_flight"]), (2000, 0, 0), row)

    def test_messages_that_need_fragments(self):
        node = Node(self)
        sent = ["x" * 1_000_000, "short", "y" * 300_000]
        self.python_send(node, "python", sent)
        self.assertTrue(self.work(node, "python").lines == sent)
        self.send(node, "command", lines=sent)
        self.assertTrue(self.python_work(node, "command", 3) == sent)

    def test_verdicts(self):
        node = Node(self, config="[queue.*]\nbackoff = 1ms\n")
        self.send(node, "jobs", lines=["good one", "bad one", "fail once"])
        worker = self.python("work.py", node, "jobs")
        row = node.until_queue("jobs", lambda row: row["acked"] == 2 and row["dead"] == 1, "two done, one dead")
        self.assertEqual((row["rejected"], row["nacked"]), (1, 1), row)
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait(), 0)
        self.assertEqual(worker.lines, ["good one", "fail once"])
        self.assertEqual(node.queue("jobs")["consumers"], 0, "it said bye")

    def test_refusals(self):
        node = Node(self, config="message_limit = 1KiB\n[queue.*]\nmax_messages = 1\nwhen_full = reject\n")
        sender = self.python("send.py", node, "jobs", stdin=self.feed("x" * 1024 + "\ntaken\nno room\n"))
        self.assertEqual(sender.wait(), 1)
        self.assertRegex(sender.err, "line 1 was refused: too_large: .*\n.*line 3 was refused: queue_full: .*\nsent 1\n")
        self.assertEqual(self.work(node, "jobs").lines, ["taken"])

    def test_node_killed_in_the_middle_of_a_batch(self):
        node = Node(self)
        sent = [f"job {number}" for number in range(20_000)]
        sender = self.python("send.py", node, "jobs", stdin=self.feed("".join(line + "\n" for line in sent)))
        node.until_queue("jobs", lambda row: row["ready"] > 0, "some have come")
        node.restart()
        self.assertEqual(sender.wait(), 0)
        self.assertTrue(self.work(node, "jobs").lines == sent, "each once, in order, over the node's death")

    def test_node_killed_in_the_middle(self):
        """Jobs on their way in all states: at the sender, at the node, at the worker, settled and not confirmed."""
        node = Node(self, config="[queue.*]\nlease = 5s\n")
        sent = [f"job {number}" for number in range(2000)]
        sender = self.python("send.py", node, "jobs", stdin=subprocess.PIPE)
        workers = [self.python("work.py", node, "jobs") for _ in range(2)]

        def worked():
            return [line for worker in workers for line in worker.lines]
        for part in range(5):
            sender.handle.stdin.write("".join(line + "\n" for line in sent[part * 400:(part + 1) * 400]).encode())
            sender.handle.stdin.flush()
            if part < 4:
                until(lambda: len(worked()) > part * 300, "the workers go on")
                node.restart()
        sender.handle.stdin.close()
        self.assertEqual(sender.wait(), 0)
        self.assertIn("sent 2000\n", sender.err)
        node.until_queue("jobs", lambda row: row["ready"] + row["waiting"] + row["in_flight"] == 0, "is empty")
        for worker in workers:
            worker.signal()
            self.assertEqual(worker.wait(), 0)
        seen = collections.Counter(worked())
        self.assertEqual(set(seen), set(sent), "lost, or never sent")
        self.assertLess(sum(seen.values()) - len(sent), 4 * 100, "repeated is what was under way at a kill, no more")

    def stuck(self, node, queue):
        """A worker that cannot finish its job before what it prints is read, as the pipe is full; and the pipe."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(writer, True)
        worker = self.python("work.py", node, queue, stdout=writer)
        os.close(writer)
        pipe = open(reader, "rb")
        self.addCleanup(pipe.close)
        return worker, pipe

    def test_worker_killed(self):
        node = Node(self, config="[queue.*]\nlease = 1s\n")
        sent = [f"job {number}" for number in range(20)]
        worker, _ = self.stuck(node, "jobs")
        self.send(node, "jobs", lines=sent)
        node.until_queue("jobs", lambda row: row["in_flight"] == 1, "it has one")
        began = time.monotonic()
        node.until_queue("jobs", lambda row: time.monotonic() - began > 2.5, "two leases have passed")
        self.assertEqual(node.queue("jobs")["in_flight"], 1, "its heartbeats keep it")
        worker.kill()
        self.assertEqual(set(self.work(node, "jobs").lines), set(sent))
        self.assertEqual(node.queue("jobs")["dead"], 0)

    def test_worker_told_to_stop_ends_what_it_has_begun(self):
        node = Node(self)
        sent = [f"job {number}" for number in range(20)]
        worker, pipe = self.stuck(node, "jobs")
        self.send(node, "jobs", lines=sent)
        node.until_queue("jobs", lambda row: row["in_flight"] == 1, "it has one")
        worker.signal()
        done = pipe.read().count(b"\n")  # none, if it was told before it saw the one
        self.assertLessEqual(done, 1)
        self.assertEqual(worker.wait(), 0)
        row = node.queue("jobs")
        self.assertEqual((row["acked"], row["in_flight"], row["consumers"]), (done, 0, 0), row)
        self.assertEqual(self.work(node, "jobs").lines, sent[done:])


if __name__ == "__main__":
    main()
