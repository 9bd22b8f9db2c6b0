"""Messages that end: with the time to live they were sent with, over the death of the node."""

from posthorn_e2e import Case, Node, main


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
        self.send(node, "jobs", "short", arguments=["--ttl", "1500ms"])
        self.assertEqual(node.queue("jobs")["ready"], 2)
        node.restart()
        node.until_queue("jobs", lambda row: row["dead"] == 1 and row["ready"] == 1, "has given up the one")
        self.assertEqual(self.work(node, "jobs").lines, ["for ever"])

    def test_what_is_no_time_is_refused(self):
        self.assert_fails(self.run_posthorn("send", "jobs", "x", "--ttl", "soon"), 2, "--ttl", "soon")


if __name__ == "__main__":
    main()
