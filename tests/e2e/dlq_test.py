"""Dead letters: looked at, sent back, deleted; by reason, by id, or only to see how many it would be."""

import base64
import time

import msgpack

from posthorn_e2e import Case, Node, main
from raw_client import RawClient

FAILS = 'read job; echo "reason of $job" >&2; case $job in bad*) exit 65;; *) exit 1;; esac'


class DeadLetters(Case):
    def setUp(self):
        self.node = Node(self, config="[queue.jobs]\nmax_attempts = 2\nbackoff = 50ms\n")
        self.send(self.node, "jobs", "bad 1", "bad 2", "slow 1", "slow 2", "slow 3",
                  arguments=["--type", "test", "--header", "lang=en"])
        self.work(self.node, "jobs", "--exec", FAILS)

    def list(self, *arguments):
        return self.dlq(self.node, "list", "jobs", *arguments)

    def say(self, *arguments):
        """As people see it."""
        done = self.run_posthorn("dlq", *arguments, "--node", self.node.endpoint)
        self.assertEqual(done.wait(), 0)
        return done.out.decode()

    def test_list(self):
        letters = self.list()
        self.assertEqual(len(letters), 5)
        self.assertEqual(len({letter["id"] for letter in letters}), 5)
        rejected = self.list("--reason", "rejected")
        self.assertEqual({(one["text"], one["attempts"]) for one in rejected},
                         {("reason of bad 1", 1), ("reason of bad 2", 1)})
        spent = self.list("--reason", "max_attempts")
        self.assertEqual({(one["text"], one["attempts"]) for one in spent},
                         {(f"reason of slow {number}", 2) for number in (1, 2, 3)})
        self.assertEqual(self.list("--reason", "expired"), [])
        self.assertEqual(self.list("--id", rejected[0]["id"], "--id", spent[0]["id"]), [rejected[0], spent[0]])
        self.assertEqual(self.dlq(self.node, "list", "jobs.dlq"), letters, "its own name does as well")
        table = self.say("list", "jobs").splitlines()
        self.assertEqual(len(table), 6)
        self.assertRegex(table[0], r"^ID +REASON +ATTEMPTS")
        self.assertEqual(self.node.queue("jobs")["dead"], 5)

    def test_show(self):
        letter, = self.dlq(self.node, "show", "jobs", "--id", self.list("--reason", "rejected")[0]["id"])
        self.assertEqual({name: letter[name] for name in ("payload", "type", "headers", "reason", "text", "redrives")},
                         {"payload": "bad 1", "type": "test", "headers": {"lang": "en"}, "reason": "rejected",
                          "text": "reason of bad 1", "redrives": 0})
        self.assertLessEqual(letter["first_failure"], letter["last_failure"])
        self.assertTrue(letter["consumer"])
        shown = self.say("show", "jobs", "--id", letter["id"])
        for text in (letter["id"], "rejected", "reason of bad 1", "lang=en", "bad 1"):
            self.assertIn(text, shown)

    def test_filters(self):
        """What they mean is tested at the host (DeadLettersFixture); here, that the command passes them on."""
        self.send(self.node, "jobs", "bad 3", arguments=["--type", "other", "--header", "lang=de"])
        self.work(self.node, "jobs", "--exec", FAILS)

        def texts(*arguments):
            return [one["text"] for one in self.list(*arguments)]
        other = ["reason of bad 3"]
        self.assertEqual(len(texts("--older-than", "0", "--newer-than", "1h", "--text", "reason of ")), 6)
        self.assertEqual(texts("--older-than", "1h"), [])
        self.assertEqual(texts("--type", "other"), other)
        self.assertEqual(texts("--header", "lang=de"), other)
        self.assertEqual(texts("--header", "lang", "--text", "bad 3"), other)
        self.assertEqual(texts("--header", "lang=de", "--header", "lang=en"), [])
        self.assertEqual(texts("--text", "bad", "--type", "test"), ["reason of bad 1", "reason of bad 2"])
        self.assertEqual([one["payload"] for one in self.dlq(self.node, "show", "jobs", "--text", "slow 2")], ["slow 2"])
        self.assertIn("no dead letters that pass the filters", self.say("list", "jobs", "--type", "none"))
        self.assertIn("would delete 2", self.say("purge", "jobs", "--text", "bad", "--type", "test", "--dry-run"))
        self.assertIn("deleted 1", self.say("purge", "jobs", "--type", "other", "--newer-than", "1h"))
        self.assertIn("sent back 2", self.say("redrive", "jobs", "--text", "bad", "--header", "lang=en"))
        self.assertEqual(len(self.list()), 3)

    def test_show_of_msgpack_and_of_bytes_that_are_no_text(self):
        self.dlq(self.node, "purge", "jobs")
        with RawClient(self.node.endpoint) as client:
            client.publish("jobs", msgpack.packb({"path": "cat.mov", "tags": [1, None]}),
                           content_type="application/msgpack")
        with RawClient(self.node.endpoint) as client:
            client.publish("jobs", b"\x1b[2J\xff\n\tend")
        self.work(self.node, "jobs", "--exec", "exit 65")
        typed, raw = self.dlq(self.node, "show", "jobs")
        self.assertEqual(typed["payload_json"], {"path": "cat.mov", "tags": [1, None]})
        self.assertEqual(base64.b64decode(raw["payload_base64"]), b"\x1b[2J\xff\n\tend")
        shown = self.say("show", "jobs")
        self.assertIn('{"path":"cat.mov","tags":[1,null]}', shown)
        self.assertIn("\\x1b[2J\\xff\n", shown)
        self.assertNotIn("\x1b", shown)

    def test_queues_say_how_fast_they_are(self):
        self.send(self.node, "jobs", "one", "two", "three")
        self.work(self.node, "jobs", "--exec", "true")
        self.send(self.node, "jobs", "four")
        row = self.node.queue("jobs")
        self.assertGreater(row["in_rate"], row["out_rate"])
        self.assertGreater(row["out_rate"], 0)
        self.assertIsNone(row["drain_ms"])
        done = self.run_posthorn("queues", "--node", self.node.endpoint)
        self.assertRegex(done.lines[0], r" DEAD +IN/S +OUT/S +DRAIN +OLDEST ")
        self.assertRegex(done.lines[1], r"^jobs +1 +0 +0 +5 +[\d.<]+ +[\d.<]+ +never ")

    def test_redrive(self):
        before = self.list()
        dry, = self.dlq(self.node, "redrive", "jobs", "--reason", "max_attempts", "--dry-run")
        self.assertEqual((dry["matched"], dry["done"]), (3, 0))
        self.assertIn("would send back 3", self.say("redrive", "jobs", "--dry-run", "--reason", "max_attempts"))
        self.assertEqual(self.list(), before, "a dry run changes nothing")
        done, = self.dlq(self.node, "redrive", "jobs", "--reason", "max_attempts")
        self.assertEqual((done["matched"], done["done"]), (3, 3))
        self.assertEqual(self.list(), [one for one in before if one["reason"] == "rejected"])
        row = self.node.queue("jobs")
        self.assertEqual((row["ready"], row["dead"]), (3, 2))
        # They have all their attempts again, and an id that says how often they were sent back.
        self.work(self.node, "jobs", "--exec", 'echo $POSTHORN_ID $POSTHORN_ATTEMPT >> again; exit 1')
        old = [one["id"] for one in before if one["reason"] == "max_attempts"]
        self.assertEqual(sorted(self.records("again")),
                         sorted(f"{one}-r1 {attempt}" for one in old for attempt in (1, 2)))
        spent = self.list("--reason", "max_attempts")
        self.assertEqual([(one["id"], one["redrives"]) for one in spent], [(f"{one}-r1", 1) for one in old])
        self.assertIn("sent back 1", self.say("redrive", "jobs", "--id", spent[0]["id"]))
        self.assertEqual(self.work(self.node, "jobs").lines, ["slow 1"])
        self.assertEqual(len(self.list()), 4)

    def test_redrive_is_kept_over_a_kill(self):
        self.dlq(self.node, "redrive", "jobs")
        self.node.restart()
        row = self.node.queue("jobs")
        self.assertEqual((row["ready"], row["dead"]), (5, 0))
        self.assertEqual(len(self.work(self.node, "jobs").lines), 5)

    def test_dead_letters_are_kept_over_a_kill(self):
        before = self.dlq(self.node, "show", "jobs")
        self.node.restart()
        self.assertEqual(self.dlq(self.node, "show", "jobs"), before)

    def edit(self, letter, *arguments, **options):
        return self.run_posthorn("dlq", "edit", "jobs", "--id", letter["id"], "--node", self.node.endpoint, *arguments,
                                 **options)

    def test_edit_and_redrive(self):
        bad, = self.list("--text", "bad 1")
        self.assertEqual(self.edit(bad, "--payload", "better 1", "--header", "size=1", "--remove-header", "lang").wait(), 0)
        self.assertEqual(self.edit(bad, "--payload-file", "-", "--type", "", stdin=self.feed(b"best 1\n")).wait(), 0)
        letter, = self.dlq(self.node, "show", "jobs", "--id", bad["id"])
        self.assertEqual([letter[name] for name in ("payload", "type", "headers", "edited", "reason", "text")],
                         ["best 1\n", "", {"size": "1"}, True, "rejected", "reason of bad 1"])
        self.assertEqual({name: letter["original"][name] for name in ("payload", "type", "headers")},
                         {"payload": "bad 1", "type": "test", "headers": {"lang": "en"}}, "the first of all")
        shown = self.say("show", "jobs", "--id", bad["id"])
        self.assertRegex(shown, r"(?s)size=1.*best 1.*before its first edit it was.*test.*lang=en.*bad 1")
        self.assertEqual(len(self.list()), 5)
        done = self.edit(bad, "--header", "lang=de", "--redrive")
        self.assertEqual((done.wait(), done.out.decode()), (0, "edited and sent back 1\n"))
        self.work(self.node, "jobs", "--exec", 'echo "$POSTHORN_ID $POSTHORN_HEADER_LANG $(cat)" >> again')
        self.assertEqual(self.records("again"), [f"{bad['id']}-r1 de best 1"])
        self.assertEqual(len(self.list()), 4)

    def test_an_edit_is_kept_over_a_kill_and_then_sent_back(self):
        bad, = self.list("--text", "bad 1")
        self.assertEqual(self.edit(bad, "--payload", "better").wait(), 0)
        self.node.restart()
        letter, = self.dlq(self.node, "show", "jobs", "--id", bad["id"])
        self.assertEqual((letter["payload"], letter["original"]["payload"]), ("better", "bad 1"))
        self.dlq(self.node, "redrive", "jobs", "--id", bad["id"])
        self.node.restart()
        self.assertEqual(self.work(self.node, "jobs").lines, ["better"])
        self.assertEqual(len(self.list()), 4)

    def test_a_kill_anywhere_in_an_edit_with_redrive(self):
        """Whenever it is: the letter is dead as it was, or dead and edited with its original, or back and edited."""
        for round in range(8):
            bad, = self.list("--text", "bad 1")
            before = self.dlq(self.node, "show", "jobs", "--id", bad["id"])[0]
            command = self.spawn("dlq", "edit", "jobs", "--id", bad["id"], "--node", self.node.endpoint, "--payload",
                                 f"bad 1 of round {round}", "--redrive")
            time.sleep(round * 0.004)  # where the kill falls
            self.node.restart()
            told = command.wait() == 0
            letters = [one for one in self.dlq(self.node, "show", "jobs") if one["id"] == bad["id"]]
            if letters:
                self.assertFalse(told, "it was said to be sent back")
                letter, = letters
                self.assertIn(letter["payload"], (before["payload"], f"bad 1 of round {round}"))
                if letter["payload"] != before["payload"]:
                    self.assertEqual(letter["original"]["payload"], before.get("original", before)["payload"])
                else:
                    self.assertEqual(letter, before)
            else:
                self.assertEqual(self.node.queue("jobs")["ready"], 1)
                self.work(self.node, "jobs", "--exec", 'tee job >&2; echo >> job; exit 65')
                self.assertEqual(self.records("job"), [f"bad 1 of round {round}"])
            self.assertEqual(len(self.list()), 5)

    def test_purge(self):
        dry, = self.dlq(self.node, "purge", "jobs", "--dry-run")
        self.assertEqual((dry["matched"], dry["done"]), (5, 0))
        done, = self.dlq(self.node, "purge", "jobs", "--reason", "rejected")
        self.assertEqual((done["matched"], done["done"]), (2, 2))
        left = self.list()
        self.assertEqual([one["reason"] for one in left], ["max_attempts"] * 3)
        self.assertIn("deleted 1", self.say("purge", "jobs", "--id", left[1]["id"]))
        self.assertEqual(self.list(), [left[0], left[2]])
        self.assertIn("deleted 2", self.say("purge", "jobs"))
        self.assertIn("no dead letters", self.say("list", "jobs"))
        self.node.restart()
        self.assertEqual(self.list(), [])
        self.assertEqual(self.node.queue("jobs")["ready"], 0)

    def test_mistakes(self):
        def refused(status, *arguments):
            done = self.run_posthorn("dlq", *arguments, "--node", self.node.endpoint)
            self.assertNotEqual(done.wait(), 0)
            self.assertEqual(done.wait(), status, done.err)
            return done.err
        for action in ("list", "show", "redrive", "purge"):
            self.assertIn("nowhere", refused(5, action, "nowhere"))
        self.assertIn("none of rejected, max_attempts, expired", refused(2, "list", "jobs", "--reason", "boredom"))
        self.assertIn("no dead letter of jobs has that id", refused(1, "redrive", "jobs", "--id", "0-0"))
        self.assertIn("none of list, show, redrive, purge, edit", refused(2, "burn", "jobs"))
        self.assertIn("--dry-run", refused(2, "list", "jobs", "--dry-run"))
        for option, value in (("--type", ""), ("--text", ""), ("--header", "=x"), ("--newer-than", "0"),
                              ("--older-than", "soon")):
            self.assertIn(option, refused(2, "purge", "jobs", option, value))
        bad, = self.list("--text", "bad 1")
        for text, *arguments in (("give its --id", "--payload", "x"), ("say what to change", "--id", bad["id"]),
                                 ("--reason is not for edit", "--id", bad["id"], "--reason", "rejected"),
                                 ("--dry-run is not for edit", "--id", bad["id"], "--type", "x", "--dry-run"),
                                 ("not both", "--id", bad["id"], "--payload", "x", "--payload-file", "-"),
                                 ("KEY=VALUE", "--id", bad["id"], "--header", "lang"),
                                 ("given twice", "--id", bad["id"], "--header", "a=b", "--remove-header", "a")):
            self.assertIn(text, refused(2, "edit", "jobs", *arguments))
        self.assertIn("--redrive is not for purge", refused(2, "purge", "jobs", "--redrive"))
        self.assertIn("no dead letter of jobs has that id", refused(1, "edit", "jobs", "--id", "0-0", "--payload", "x"))
        self.assertIn("cannot read nowhere", refused(1, "edit", "jobs", "--id", bad["id"], "--payload-file", "nowhere"))
        self.assertIn("longer than 1 KiB", refused(5, "edit", "jobs", "--id", bad["id"], "--type", "x" * 1025))
        self.assertEqual(len(self.list()), 5)

    def test_edits_that_are_too_large(self):
        self.node.kill()
        self.node.arguments += ["--message-limit", "1MiB"]
        self.node.start()
        bad, = self.list("--text", "bad 1")
        for size, text in ((2 ** 20, "this host takes messages up to 1048576"),
                           (2 ** 20 + 1, "takes messages of 1048576 at most"),
                           (2 ** 24 + 1, "longer than 16MiB, which no node takes")):
            done = self.run_posthorn("dlq", "edit", "jobs", "--id", bad["id"], "--payload-file", "-", "--node",
                                     self.node.endpoint, stdin=self.feed(b"x" * size))
            self.assertNotEqual(done.wait(), 0)
            self.assertIn(text, done.err)
        self.assertFalse(self.list("--id", bad["id"])[0]["edited"])


class Bounds(Case):
    """Dead letters may be bounded: then the oldest go, or nothing more is delivered."""

    def bounded(self, config):
        node = Node(self, config="[queue.jobs]\n" + config)
        self.send(node, "jobs", *(f"bad {number}" for number in range(5)))
        return node

    def test_drop_oldest(self):
        node = self.bounded("dlq_max_messages = 2\ndlq_when_full = drop_oldest\n")
        self.work(node, "jobs", "--exec", FAILS)
        self.assertEqual([one["text"] for one in self.dlq(node, "list", "jobs")], ["reason of bad 3", "reason of bad 4"])
        row = node.queue("jobs")
        self.assertEqual((row["dead"], row["dead_dropped"], row["state"]), (2, 3, "ok"))
        node.process.wait_until_said("dlq_full: jobs: the oldest dead letters were deleted")
        node.restart()
        self.assertEqual(node.queue("jobs")["dead"], 2)

    def test_drop_oldest_by_bytes(self):
        node = self.bounded("dlq_max_bytes = 100B\ndlq_when_full = drop_oldest\n")
        self.work(node, "jobs", "--exec", FAILS)
        row = node.queue("jobs")
        self.assertEqual((row["dead"], row["dead_dropped"]), (2, 3), row)
        self.assertLessEqual(row["dead_bytes"], 100)

    def test_a_storm(self):
        node = self.bounded("storm_after = 3\n")
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--exec", FAILS)
        node.until_queue("jobs", lambda row: row["state"] == "failing", "only fails")
        node.process.wait_until_said("storm: jobs: so many failures and no ack")
        worker.signal()
        self.assertEqual(worker.wait(), 0)
        self.send(node, "jobs", "good")
        self.work(node, "jobs")
        node.process.wait_until_said("storm: jobs: a message was acked")
        self.assertEqual(node.queue("jobs")["state"], "ok")

    def test_block(self):
        node = self.bounded("dlq_max_messages = 2\n")
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--exec", FAILS)
        node.until_queue("jobs", lambda row: row["state"] == "dlq_full" and row["in_flight"] == 0, "nothing is delivered")
        node.process.wait_until_said("dlq_full: jobs: as many dead letters as")
        worker.signal()
        self.assertEqual(worker.wait(), 0, "it ends when its settlements are safe")
        before = node.queue("jobs")
        self.assertGreaterEqual(before["dead"], 2)
        self.dlq(node, "list", "jobs")  # and so they are stored
        node.restart()
        self.assertEqual(node.queue("jobs")["state"], "dlq_full")
        self.dlq(node, "purge", "jobs")
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--exec", FAILS)
        left = 5 - before["dead"]
        node.until_queue("jobs", lambda row: row["dead"] >= min(2, left), "it goes on")
        worker.signal()
        self.assertEqual(worker.wait(), 0)


if __name__ == "__main__":
    main()
