"""A live topic at a node, by the command: what is received and missed is what was matched, whatever happens on the way."""
import re
import signal

from posthorn_e2e import Case, Node, main, until
from proxy import Proxy

CONFIG = """
[live.prices]
max_messages = 3000
last_values = 10
"""
ROUNDS = 5
COUNT = 100000  # in each round, of each of two subjects: half of a million match


class PubSub(Case):
    def subscribe(self, endpoint, *arguments):
        return self.spawn("subscribe", "--live", "prices", "--node", endpoint, *arguments)

    def publish(self, node, subject, lines):
        return self.spawn("publish", "--live", "prices", "--subject", subject, "--node", node.endpoint,
                          stdin=self.feed("".join(f"{line}\n" for line in lines)))

    def counts(self, process):
        process.signal()
        self.assertEqual(process.wait(), 0)
        return [int(number) for number in re.search(r"received (\d+), missed (\d+)", process.err).groups()]

    def test_a_reader_that_is_stopped_and_one_that_is_cut_off(self):
        node = Node(self, CONFIG)
        proxy = Proxy(node.port)
        self.addCleanup(proxy.close)
        quick, stopped = (self.subscribe(node.endpoint, "--match", "a.*") for _ in range(2))
        cut = self.subscribe(proxy.endpoint, "--match", "a.*")
        node.until_queue("prices", lambda row: row["consumers"] == 3, "all three are there")
        for round in range(ROUNDS):
            stopped.signal(signal.SIGSTOP)
            proxy.cut()
            numbers = range(round * COUNT, (round + 1) * COUNT)
            publishers = [self.publish(node, subject, numbers) for subject in ("a.x", "b.x")]
            for publisher in publishers:
                self.assertEqual(publisher.wait(), 0, "nobody waits for those who do not read")
            stopped.signal(signal.SIGCONT)
            proxy.go_on()
            node.until_queue("prices", lambda row: row["consumers"] == 3 and row["links"] == 3, "all three are back")
        self.assertEqual(self.publish(node, "a.x", [ROUNDS * COUNT]).wait(), 0)
        for process in (quick, stopped, cut):
            until(lambda: process.lines[-1:] == [str(ROUNDS * COUNT)], f"{process.name} has the last one")
            received, missed = self.counts(process)
            numbers = [int(line) for line in process.lines]
            self.assertEqual(len(numbers), received)
            self.assertEqual(numbers, sorted(set(numbers)), "in order, none twice")
            self.assertEqual(received + missed, ROUNDS * COUNT + 1, "exactly what was matched")
            if process is not quick:
                self.assertGreater(missed, 0)
        row = node.queue("prices")
        self.assertEqual((row["kind"], row["store"], row["matched"]), ("live", "memory", 3 * (ROUNDS * COUNT + 1)))
        node.stop()
        self.assertIn("found 0 topics", Node(self, CONFIG, data=node.data).process.err, "nothing of it was stored")

    def test_a_late_one_has_the_last_values_and_other_kinds_are_refused(self):
        node = Node(self, CONFIG)
        for subject, text in (("a", "1"), ("b", "2"), ("a", "3")):
            self.assertEqual(self.publish(node, subject, [text]).wait(), 0)
        late = self.subscribe(node.endpoint, "--count", "2")
        self.assertEqual((late.wait(), late.lines), (0, ["2", "3"]))
        sent = self.run_posthorn("send", "prices", "no", "--node", node.endpoint)
        self.assert_fails(sent, 5, "prices is a live topic", "--live")
        self.assert_fails(self.subscribe(node.endpoint, "--as", "me"), 2, "--as is for subscriptions that are kept")


main()
