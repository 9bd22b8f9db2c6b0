"""A queue that is full refuses, or makes senders wait; as it was told to."""
from posthorn_e2e import Case, Node, main

TEXTS = [str(number) for number in range(15)]


class FullQueue(Case):
    def test_is_listed_before_its_first_use(self):
        node = Node(self, config="[queue.jobs]\nmax_messages = 10\n[queue.idle]\nmax_messages = 10\n")
        self.send(node, "jobs", "one")
        self.assertEqual(list(node.queues()), ["idle", "jobs"])
        idle = node.queue("idle")
        self.assertEqual([idle[name] for name in ("ready", "waiting", "in_flight", "dead", "bytes")], [0] * 5)
        self.assertEqual((idle["state"], idle["store"]), ("ok", "disk"))
        self.assertEqual(self.dlq(node, "list", "idle"), [])

    def test_reject(self):
        node = Node(self, config="[queue.jobs]\nmax_messages = 10\nwhen_full = reject\n")
        sender = self.run_posthorn("send", "--node", node.endpoint, "jobs", *TEXTS)
        self.assert_fails(sender, 4, "queue_full", "sent 10, not confirmed 5", "refused by the node: 5")
        row = node.queue("jobs")
        self.assertEqual((row["ready"], row["refused_full"]), (10, 5), row)
        self.assertEqual(self.work(node, "jobs").lines, TEXTS[:10])
        self.assertIn("sent 10", self.send(node, "jobs", *TEXTS[:10]).err)

    def test_reject_by_bytes(self):
        node = Node(self, config="[queue.jobs]\nmax_bytes = 64KiB\nwhen_full = reject\n")
        sender = self.run_posthorn("send", "--node", node.endpoint, "jobs", *["x" * 10_000] * 10)
        self.assert_fails(sender, 4, "queue_full", "sent 6, not confirmed 4")
        self.assertLessEqual(node.queue("jobs")["bytes"], 64 * 1024)

    def test_reject_takes_one_however_large(self):
        node = Node(self, config="[queue.jobs]\nmax_bytes = 1KiB\nwhen_full = reject\n")
        self.send(node, "jobs", "x" * 10_000)
        self.assert_fails(self.run_posthorn("send", "--node", node.endpoint, "jobs", "y"), 4, "queue_full")
        self.assertEqual(self.work(node, "jobs").lines, ["x" * 10_000])
        self.send(node, "jobs", "y")

    def test_block(self):
        node = Node(self, config="[queue.jobs]\nmax_messages = 10\nwhen_full = block\n")
        sender = self.spawn("send", "--node", node.endpoint, "--timeout", "60s", "jobs", *TEXTS)
        node.until_queue("jobs", lambda row: row["ready"] == 10 and row["state"] == "queue_full", "is full")
        self.assertTrue(sender.running())
        first = self.run_posthorn("work", "--node", node.endpoint, "jobs", "--count", "3")
        node.until_queue("jobs", lambda row: row["ready"] == 10 and row["state"] == "queue_full", "is full again")
        self.assertTrue(sender.running())
        self.assertEqual(first.lines + self.work(node, "jobs").lines, TEXTS)
        self.assertEqual(sender.wait(), 0)
        self.assertIn("sent 15\n", sender.err)
        self.assertEqual(node.queue("jobs")["refused_full"], 0)

    def test_block_by_bytes(self):
        node = Node(self, config="[queue.jobs]\nmax_bytes = 64KiB\n")
        texts = [str(number) + "x" * 10_000 for number in range(20)]
        sender = self.spawn("send", "--node", node.endpoint, "--timeout", "60s", "jobs", *texts)
        node.until_queue("jobs", lambda row: row["state"] == "queue_full", "is full")
        seen = []
        while sender.running():
            seen += self.run_posthorn("work", "--node", node.endpoint, "jobs", "--count", "1").lines
            self.assertLess(node.queue("jobs")["bytes"], 64 * 1024 + 11_000)
        self.assertEqual(sender.wait(), 0)
        self.assertEqual(seen + self.work(node, "jobs").lines, texts)

    def test_drop_oldest(self):
        node = Node(self, config="[queue.jobs]\nmax_messages = 10\nwhen_full = drop_oldest\n")
        self.assertIn("sent 15\n", self.send(node, "jobs", *TEXTS).err)
        row = node.queue("jobs")
        self.assertEqual([row[name] for name in ("ready", "dropped_full", "refused_full", "dead")], [10, 5, 0, 0], row)
        node.process.wait_until_said("overflow: jobs: the queue was full .*its oldest messages were deleted")
        self.assertIn("dropped_full 5", "".join(self.run_posthorn("queues", "--node", node.endpoint).lines))
        node.kill()
        node.start()
        self.assertEqual(self.work(node, "jobs").lines, TEXTS[5:])

    def test_dead_letter(self):
        node = Node(self, config="[queue.jobs]\nmax_messages = 10\nwhen_full = dead_letter\n")
        self.assertIn("sent 15\n", self.send(node, "jobs", *TEXTS).err)
        row = node.queue("jobs")
        self.assertEqual([row[name] for name in ("ready", "dead_queue_full", "dead")], [10, 5, 5], row)
        self.assertEqual(len(self.dlq(node, "list", "jobs", "--reason", "queue_full")), 5)
        self.assertEqual(self.work(node, "jobs").lines, TEXTS[5:])
        self.dlq(node, "redrive", "jobs")
        self.assertEqual(self.work(node, "jobs").lines, TEXTS[:5])

    def test_a_lower_bound_after_a_restart(self):
        node = Node(self, config="[queue.jobs]\nmax_messages = 10\n")
        self.send(node, "jobs", *TEXTS[:10])
        node.stop()
        lower = Node(self, config="[queue.jobs]\nmax_messages = 3\nwhen_full = drop_oldest\n", data=node.data)
        lower.until_queue("jobs", lambda row: row["dropped_full"] == 7, "has made room")
        self.assertEqual(self.work(lower, "jobs").lines, TEXTS[7:10])

    def test_block_gives_up(self):
        node = Node(self, config="[queue.jobs]\nmax_messages = 10\n")
        sender = self.run_posthorn("send", "--node", node.endpoint, "--timeout", "10s", "jobs", *TEXTS)
        self.assert_fails(sender, 4, "sent 10, not confirmed 5", "the queue is full")
        self.assertEqual(node.queue("jobs")["ready"], 10)


if __name__ == "__main__":
    main()
