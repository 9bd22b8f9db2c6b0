"""A node copies its store while it serves: everything confirmed is in the copy, which is a store like any other."""
import json

from posthorn_e2e import Case, Node, main, until
from raw_client import RawClient


class Backup(Case):
    def copied(self, node, name):
        done = self.run_posthorn("backup", name, "--node", node.endpoint)
        self.assertEqual(done.wait(), 0)
        self.assertRegex(done.err, rf"posthorn backup: .*iB in {self.folder}/{name}\n$")
        return self.folder / name

    def test_under_load(self):
        node = Node(self)
        sent = [f"message {number}" for number in range(100_000)]
        self.send(node, "jobs", lines=sent)
        self.send(node, "done", lines=sent[:20_000])
        self.work(node, "done", "--count", "10000")
        flood = self.spawn("send", "--node", node.endpoint, "flood",
                           stdin=self.feed("".join(f"flood {number}\n" for number in range(400_000))))
        node.until_queue("flood", lambda row: row["ready"] > 0, "the flood has come")
        folder = self.copied(node, "copy")
        self.assertEqual(flood.wait(), 0, "the node goes on serving")
        self.assertEqual(node.queue("flood")["ready"], 400_000)
        seen = self.run_posthorn("inspect", folder, "--json")
        self.assertEqual(seen.wait(), 0)
        messages = {row["name"]: row["messages"] for row in map(json.loads, seen.lines) if row["kind"] == "queue"}
        self.assertEqual((messages["jobs"], messages["done"]), (100_000, 10_000))
        self.assertLessEqual(messages.get("flood", 0), 400_000)
        beside = Node(self, data=folder)
        self.assertTrue(self.work(beside, "jobs").lines == sent, "each once, in order")
        self.assertTrue(self.work(beside, "done").lines == sent[10_000:20_000], "confirmed acks are in it as well")
        flooded = self.work(beside, "flood").lines
        self.assertTrue(flooded == [f"flood {number}" for number in range(len(flooded))], "a part with a hole")
        self.assertEqual(node.queue("jobs")["ready"], 100_000, "the original is as it was")

    def test_refusals(self):
        node = Node(self)
        self.send(node, "jobs", "one")
        self.write("mine", "")
        refused = self.run_posthorn("backup", self.folder, "--node", node.endpoint)
        self.assert_fails(refused, 5, f"{self.folder} is there and is not an empty folder. Give a new one")
        self.assert_fails(self.run_posthorn("backup", node.data, "--node", node.endpoint), 5, "is not an empty folder")
        self.assert_fails(self.run_posthorn("backup"), 2, "give one folder")
        self.copied(node, "copy")
        self.copied(node, "another")

    def test_abandoned(self):
        """Who does not ask for the next slice and is gone gives the backup up; nothing of it stays."""
        node = Node(self)
        self.send(node, "jobs", lines=["x" * 10_000] * 1000)
        with RawClient(node.endpoint) as client:
            client.hello(None, role="admin")
            client.epoch = client.hear_of_welcome()[0]
            client.say("admin", {"id": 1, "verb": "backup", "folder": str(self.folder / "copy")})
            _, result = client.hear_of("result")
            self.assertFalse(result.get("error"), result)
            self.assertGreater(result["next"], 0)
            self.assertLess(result["rows"][0]["copied"], result["rows"][0]["total"])
            self.assertEqual([path.name for path in self.folder.glob("copy/*.part")], ["posthorn.db.part"])
            self.assert_fails(self.run_posthorn("backup", "other", "--node", node.endpoint), 5,
                              "another backup is under way")
        until(lambda: not list(self.folder.glob("copy/*")), "the part is removed")
        self.copied(node, "copy")
        self.assert_serves(node)


if __name__ == "__main__":
    main()
