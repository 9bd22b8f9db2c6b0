"""Messages with terms, over the death of the node: priority, ordering key, delay, time to live, dedup key."""

import time

from posthorn_e2e import Case, Node, main
from raw_client import RawClient


class Times(Case):
    def test_time_to_live(self):
        node = Node(self)
        self.send(node, "jobs", "short 1", "short 2", arguments=["--ttl", "200ms"])
        self.send(node, "jobs", "long", arguments=["--ttl", "1h"])
        self.send(node, "jobs", "for ever")
        node.until_queue("jobs", lambda row: row["dead_expired"] == 2, "has given up two, with no worker there")
        self.assertEqual({(one["text"], one["attempts"]) for one in self.dlq(node, "list", "jobs", "--reason", "expired")},
                         {("not done within its time to live", 0)})
        self.assertEqual(self.work(node, "jobs").lines, ["long", "for ever"])
        self.dlq(node, "redrive", "jobs")
        self.assertEqual(self.work(node, "jobs").lines, ["short 1", "short 2"])

    def test_it_runs_on_while_the_node_is_dead(self):
        node = Node(self)
        self.send(node, "jobs", "for ever")
        self.send(node, "jobs", "short", arguments=["--ttl", "10s"])
        self.assertEqual(node.queue("jobs")["ready"], 2)
        node.restart()
        node.until_queue("jobs", lambda row: row["dead"] == 1 and row["ready"] == 1, "has given up the one")
        self.assertEqual(self.work(node, "jobs").lines, ["for ever"])

    def test_priority_and_key(self):
        node = Node(self)
        self.send(node, "jobs", "low", "low too")
        self.send(node, "jobs", "high", arguments=["--priority", "9"])
        self.send(node, "jobs", "of a", "of a too", arguments=["--priority", "5", "--key", "a"])
        node.restart()
        lines = self.work(node, "jobs").lines
        # The second of a key is free when the first is acked, and the worker may have fetched a low one by then.
        self.assertEqual(sorted(lines), ["high", "low", "low too", "of a", "of a too"])
        self.assertEqual([one for one in lines if one != "of a too"], ["high", "of a", "low", "low too"])
        self.assertLess(lines.index("of a"), lines.index("of a too"))

    def test_a_key_is_held_up_by_its_first(self):
        node = Node(self)
        self.send(node, "jobs", "a1", "a2", arguments=["--key", "a"])
        self.send(node, "jobs", "b1", arguments=["--key", "b"])
        log = self.folder / "log"
        fails_once = f'payload=$(cat); echo $payload >> {log}; test $payload != a1 -o $POSTHORN_ATTEMPT -gt 1'
        self.work(node, "jobs", "--exec", fails_once)
        self.assertEqual(self.records("log"), ["a1", "b1", "a1", "a2"])

    def test_delay(self):
        node = Node(self)
        self.send(node, "jobs", "in an hour", arguments=["--delay", "1h"])
        self.send(node, "jobs", "at once")
        sent = time.time()
        self.send(node, "jobs", "later", arguments=["--delay", "10s"])
        self.assertEqual(node.queue("jobs")["waiting"], 2)
        node.restart()
        self.assertEqual(self.work(node, "jobs", "--count", "1").lines, ["at once"])
        self.assertEqual(self.work(node, "jobs", "--count", "1").lines, ["later"])
        self.assertGreaterEqual(time.time(), sent + 10)
        self.assertEqual(node.queue("jobs")["waiting"], 1)

    def test_a_dedup_key_is_taken_once_within_its_window(self):
        window = 20.0
        node = Node(self, f"[queue.jobs]\ndedup_window = {window:.0f}s\n")

        def send(payload, key):
            with RawClient(node.endpoint) as producer:
                producer.publish("jobs", payload, dedup_key=key)

        sent = time.monotonic()
        send(b"once", "invoice 42")
        accepted = time.monotonic()
        send(b"another", "invoice 43")
        node.restart()
        send(b"again", "invoice 42")
        self.assertEqual(self.work(node, "jobs").lines, ["once", "another"])
        node.restart()
        send(b"and again", "invoice 42")
        self.assertLess(time.monotonic(), sent + window, "this machine is too slow for the window of this test")
        row = node.queue("jobs")
        self.assertEqual((row["ready"], row["deduplicated"]), (0, 1))
        time.sleep(max(0.0, accepted + window + 0.1 - time.monotonic()))  # its end is a promise of its own
        send(b"later", "invoice 42")
        self.assertEqual(self.work(node, "jobs").lines, ["later"])

    def test_what_is_no_time_is_refused(self):
        self.assert_fails(self.run_posthorn("send", "jobs", "x", "--ttl", "soon"), 2, "--ttl", "soon")


if __name__ == "__main__":
    main()
