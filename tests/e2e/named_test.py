"""A producer that is killed in mid-stream and started again goes on with its source: each item is in the queue once."""
import json
import os
import re
import subprocess

from posthorn_e2e import ANY_PORT, Case, Node, main, until

PRODUCER = os.environ["POSTHORN_KILLABLE_PRODUCER"]
ENDLESS = 10_000_000  # more than come before it is killed


def number(producer, pattern):
    """The last one said."""
    said = [int(match.group(1)) for match in (re.fullmatch(pattern + r" (\d+)", line) for line in producer.lines)
            if match]
    return said[-1] if said else None


class Named(Case):
    def produce(self, home, count):
        return self.program([PRODUCER, home, "jobs", count, "importer"], "producer", stdin=subprocess.PIPE)

    def killed_in_mid_stream(self, home, after):
        producer = self.produce(home, ENDLESS)
        until(lambda: (number(producer, "confirmed") or 0) >= after, "it is in full flow")
        producer.kill()
        return number(producer, "confirmed")

    def assert_each_once(self, seen, count):
        self.assertTrue(seen == [f"message {i}" for i in range(count)],
                        f"{len(seen)} came of {count}, or not in order")

    def test_at_a_node(self):
        """And the node is killed as well."""
        node = Node(self)
        confirmed = 0
        for life in range(4):
            confirmed = self.killed_in_mid_stream(node.endpoint, confirmed + 20_000)
            if life % 2:
                node.restart()
        count = node.queue("jobs")["ready"] + 20_000
        last = self.produce(node.endpoint, count)
        until(lambda: number(last, "resumed at") is not None, "it is told its place")
        self.assertGreaterEqual(number(last, "resumed at"), confirmed)
        until(lambda: number(last, "confirmed") == count, "all are stored")
        self.assert_each_once(self.work(node, "jobs").lines, count)

    def test_here_with_a_store(self):
        home = f"here:{ANY_PORT}?store={self.folder / 'spool'}"
        confirmed = 0
        for _ in range(3):
            confirmed = self.killed_in_mid_stream(home, confirmed + 20_000)
        left = self.run_posthorn("inspect", self.folder / "spool", "--json").lines
        count = sum(row.get("messages", 0) for row in map(json.loads, left)) + 20_000
        last = self.produce(home, count)
        until(lambda: number(last, "confirmed") == count, "all are stored")
        self.assertGreaterEqual(number(last, "resumed at"), confirmed)
        last.handle.stdin.close()
        self.assertEqual(last.wait(), 0)
        self.assert_each_once(self.work(Node(self, data=self.folder / "spool"), "jobs").lines, count)

    def test_the_later_of_two_goes_on(self):
        node = Node(self)
        first = self.produce(node.endpoint, ENDLESS)
        until(lambda: (number(first, "confirmed") or 0) >= 5000, "it is in full flow")
        second = self.produce(node.endpoint, ENDLESS)
        self.assert_fails(first, 1, "wait: closed")
        until(lambda: (number(second, "confirmed") or 0) >= (number(second, "resumed at") or 0) + 5000, "it is in full flow")
        second.kill()
        self.assertGreaterEqual(number(second, "resumed at"), number(first, "confirmed"))
        seen = self.work(node, "jobs").lines
        self.assertGreaterEqual(len(seen), number(second, "confirmed"))
        self.assert_each_once(seen, len(seen))
        self.assertIn("fenced", node.process.err)


if __name__ == "__main__":
    main()
