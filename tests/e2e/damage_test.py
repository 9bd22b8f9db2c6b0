"""Bytes that rot on the disk are noticed and reported by queue and range; everything else is served."""
import contextlib
import re
import sqlite3

from posthorn_e2e import Case, Node, main

TEXTS = [f"message {number:05} " + "x" * 100 for number in range(12000)]
VICTIM = 7500


class Damage(Case):
    def setUp(self):
        self.node = Node(self)
        for first in range(0, len(TEXTS), 3000):
            self.send(self.node, "jobs", lines=TEXTS[first:first + 3000])
        self.send(self.node, "others", "not hurt")
        self.node.stop()
        self.file = self.node.data / "posthorn.db"
        self.topic = self.ask("SELECT id FROM topic WHERE name = 'jobs'")
        self.start = self.ask("SELECT min(first) FROM chunk WHERE topic = ?", self.topic)  # the offset of TEXTS[0]

    def change(self, statement, *values):
        with contextlib.closing(sqlite3.connect(self.file)) as db, db:
            return db.execute(statement, values).rowcount

    def ask(self, question, *values):
        with contextlib.closing(sqlite3.connect(self.file)) as db:
            return db.execute(question, values).fetchone()[0]

    def assert_the_rest_is_served(self, at_start):
        self.node.start()
        started = self.node.process.err
        seen = self.work(self.node, "jobs").lines
        served = set(seen)
        lost = [number for number, text in enumerate(TEXTS) if text not in served]
        self.assertTrue(seen == [text for text in TEXTS if text in served], "the rest is not served once and in order")
        self.assertTrue(lost, "what is damaged was handed out all the same")
        self.assertEqual(lost, list(range(lost[0], lost[-1] + 1)))
        self.assertLess(len(lost), len(TEXTS) // 2)
        first, last = self.start + lost[0], self.start + lost[-1]
        self.assertRegex(started if at_start else self.node.process.err,
                         f"damaged: jobs: messages {first} to {last} cannot be read.*the rest is served .{len(lost)}.")
        self.assertEqual(self.work(self.node, "others").lines, ["not hurt"])
        row = self.node.queue("jobs")
        self.assertEqual((row["ready"], row["in_flight"], row["dead"]), (0, 0, 0), row)
        self.assertEqual(self.send(self.node, "jobs", "a new one").handle.returncode, 0)
        self.node.restart()
        self.assertEqual(self.work(self.node, "jobs").lines, ["a new one"])
        return lost

    def test_body(self):
        with open(self.file, "r+b") as file:
            content = file.read()
            places = [found.start() for found in re.finditer(TEXTS[VICTIM].encode(), content)]
            self.assertTrue(places, "the message is in the file")
            for place in places:
                file.seek(place + 20)
                file.write(bytes(byte ^ 0xff for byte in content[place + 20:place + 28]))
        self.assertIn(VICTIM, self.assert_the_rest_is_served(at_start=False))

    def test_header(self):
        changed = self.change("UPDATE chunk SET header = zeroblob(length(header)) "
                              "WHERE topic = ? AND ? BETWEEN first AND last", self.topic, self.start + VICTIM)
        self.assertEqual(changed, 1)
        self.assertIn(VICTIM, self.assert_the_rest_is_served(at_start=True))


if __name__ == "__main__":
    main()
