"""`posthorn inspect` sees what a node has left, however it ended, and changes nothing."""
import json
import os

from posthorn_e2e import Case, Node, main


class Inspect(Case):
    def inspect(self, node, *arguments):
        before = self.bytes(node)
        done = self.run_posthorn("inspect", node.data, *arguments)
        self.assertEqual(done.wait(), 0)
        self.assertTrue(self.bytes(node) == before, "inspect has changed the folder")
        return done

    def rows(self, node, *arguments):
        return [json.loads(line) for line in self.inspect(node, "--json", *arguments).lines]

    @staticmethod
    def bytes(node):
        return {path.name: (path.read_bytes(), os.stat(path).st_mtime_ns) for path in node.data.iterdir()}

    def fill(self, node):
        self.send(node, "jobs", lines=[f"job {number}" for number in range(50)])
        self.send(node, "others", "fails", "is rejected")
        worker = self.spawn("work", "--node", node.endpoint, "others", "--exec",
                            'read text; if [ "$text" = fails ]; then exit 1; fi; echo no >&2; exit 65')
        node.until_queue("others", lambda row: row["waiting"] == 1 and row["dead"] == 1, "both have failed")
        worker.signal()
        self.assertEqual(worker.wait(), 0, "it ends when its settlements are safe")

    def assert_seen(self, node):
        store, *queues = self.rows(node)
        self.assertEqual((store["kind"], store["format"]), ("store", 3))
        self.assertEqual([(row["kind"], row["name"], row["messages"] + row["dead"]) for row in queues],
                         [("queue", "jobs", 50), ("queue", "others", 2)])
        self.assertGreater(queues[0]["bytes"], 50 * len("job 0"))
        messages = self.rows(node, "--queue", "jobs")
        self.assertEqual(len(messages), 50)
        self.assertEqual({(row["state"], row["attempts"]) for row in messages}, {("ready", 0)})
        self.assertEqual([row["offset"] for row in messages], sorted(row["offset"] for row in messages))
        waiting, dead = self.rows(node, "--queue", "others"), self.rows(node, "--queue", "others", "--dead")
        self.assertEqual([(row["state"], row["attempts"]) for row in waiting], [("waiting", 1)])
        self.assertEqual([(row["reason"], row["text"]) for row in dead], [("rejected", "no")])
        return store

    def test_after_a_kill_and_after_a_stop(self):
        node = Node(self, config="[queue.*]\nbackoff = 2h\n")
        self.fill(node)
        node.kill()
        self.assertGreater(self.assert_seen(node)["log_pages"], 0, "the log has what the file does not")
        human = self.inspect(node).out.decode()
        self.assertRegex(human, r"format 3, .*\nlog: \d+ pages .*that the next start moves into the file")
        self.assertRegex(human, r"\njobs +50 ")
        node.start()
        letter, = self.dlq(node, "list", "others")
        self.dlq(node, "edit", "others", "--id", letter["id"], "--payload", "other")
        node.stop()
        self.assertEqual(self.assert_seen(node)["log_pages"], 0)
        dead, = self.rows(node, "--queue", "others", "--dead")
        self.assertTrue(dead["edited"])
        self.assertIn("log: none: all is in the file", self.inspect(node).out.decode())
        node.start()
        self.assertEqual(node.queue("jobs")["ready"], 50)

    def test_bounded(self):
        node = Node(self)
        self.send(node, "jobs", lines=[f"job {number}" for number in range(2500)])
        node.stop()
        done = self.inspect(node, "--queue", "jobs", "--json")
        self.assertEqual(len(done.lines), 1000)
        self.assertIn("there are more than 1000; --max lists more", done.err)
        done = self.inspect(node, "--queue", "jobs", "--max", "2500")
        self.assertEqual(sum("ready" in line for line in done.lines), 2500)
        self.assertEqual(done.err, "")

    def test_refusals(self):
        node = Node(self)
        self.send(node, "jobs", "one")
        self.assert_fails(self.run_posthorn("inspect", node.data), 1,
                          f"in use by process {node.process.handle.pid}. Stop that process first, or look at a backup")
        self.send(node, "jobs", "the node is well")
        node.stop()
        self.assert_fails(self.run_posthorn("inspect", node.data, "--queue", "job"), 1, "no queue job .* is: jobs")
        self.assert_fails(self.run_posthorn("inspect", self.folder), 1, "is not a store: it has no posthorn.db")
        self.assert_fails(self.run_posthorn("inspect", node.data, "--dead"), 2, "go with --queue")
        self.assert_fails(self.run_posthorn("inspect"), 2, "give one folder")


if __name__ == "__main__":
    main()
