"""Strict order with real processes: kill -9 of the receiver that works, and of the node."""
import os
import pathlib

from posthorn_e2e import BINARY, Case, Node, main, until

RECEIVER = os.environ["POSTHORN_KILLABLE_RECEIVER"]
CONFIG = "[queue.*]\nlease = 2s\nbackoff = fixed\nbackoff_min = 10ms\n"
COUNT = 1000


class PointToPoint(Case):
    def receive(self, node):
        return self.program([RECEIVER, node.endpoint, "jobs", self.folder / "log"], "receiver")

    def done(self):
        return sum(line.startswith("done ") for line in self.records("log"))

    def assert_in_strict_order(self, texts, deaths):
        """Each was begun after all before it were done; at a death at most one was begun and not done, and what had
        been acked and not confirmed came again, in order."""
        furthest, open_ones = -1, []
        place = {text: number for number, text in enumerate(texts)}
        for line in self.records("log"):
            what, text = line.split(" ", 1)
            number = place[text]
            if what == "done":
                self.assertEqual(open_ones.pop(), number, f"{line}: another one was being worked on")
                continue
            if open_ones:  # whoever had begun it was killed
                deaths -= 1
                self.assertGreaterEqual(deaths, 0, f"{line}: two at once")
                open_ones = []
            self.assertLessEqual(number, furthest + 1, f"{line}: {texts[furthest + 1]} was not begun before it")
            furthest = max(furthest, number)
            open_ones.append(number)
        self.assertEqual(open_ones, [])
        self.assertEqual(furthest, len(texts) - 1)

    def sent(self, node):
        texts = [f"fail {i}" if i % 100 == 50 else f"text {i}" for i in range(COUNT)]
        self.send(node, "jobs", lines=texts)
        return texts

    def test_the_receiver_that_works_is_killed(self):
        node = Node(self, CONFIG)
        texts = self.sent(node)
        receivers = [self.receive(node) for _ in range(4)]
        # Whoever is killed: it may stand by.
        for victim in receivers[:3]:
            before = self.done()
            until(lambda: self.done() > before + 20 or self.done() >= COUNT, "they are at it")
            victim.kill()
        node.until_queue("jobs", lambda row: row["acked"] >= COUNT and row["in_flight"] == 0, "all is done")
        self.assertTrue(node.queue("jobs")["strict"])
        self.assert_in_strict_order(texts, deaths=3)
        self.assertEqual(self.dlq(node, "list", "jobs"), [])

    def test_the_node_is_killed(self):
        node = Node(self, CONFIG)
        texts = self.sent(node)
        receiver = self.receive(node)
        for _ in range(3):
            before = self.done()
            until(lambda: self.done() > before + 20 or self.done() >= COUNT, "they are at it")
            node.restart()
        node.until_queue("jobs", lambda row: row["ready"] + row["waiting"] + row["in_flight"] == 0, "all is done")
        receiver.signal()
        self.assertEqual(receiver.wait(), 0)
        self.assertTrue(node.queue("jobs")["strict"], "it is remembered")
        self.assertEqual(sorted(set(self.records("log")[1::2])), sorted({f"done {text}" for text in texts}))
        self.assert_in_strict_order(texts, deaths=0)

    def test_the_example(self):
        example = pathlib.Path(BINARY).parent / "point_to_point"
        own = self.program([example], "example")
        self.assertEqual(own.wait(), 0, own.err)
        self.assertEqual(own.lines, [f"alice {i}" for i in range(1, 11)])
        node = Node(self)
        booking = b"\x82\xa7account\xa3bob\xa5cents\x07\n"  # {"account": "bob", "cents": 7}
        self.assertEqual(self.run_posthorn("send", "--node", node.endpoint, "ledger",
                                           stdin=self.feed(booking)).wait(), 0)
        receiver = self.program([example, node.endpoint], "example")
        until(lambda: receiver.lines == ["bob 7"], "it has come")
        receiver.signal()
        self.assertEqual(receiver.wait(), 0)


if __name__ == "__main__":
    main()
