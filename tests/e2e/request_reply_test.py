"""Requests and their answers, by the command and over deaths: each is answered, and none is begun twice."""
import json
import os
import subprocess
from collections import Counter

from posthorn_e2e import Case, Node, main, until

REQUESTER = os.environ["POSTHORN_KILLABLE_REQUESTER"]


class Requests(Case):
    def reply(self, node, service, command, *arguments):
        return self.spawn("reply", "--node", node.endpoint, service, "--exec", command, *arguments)

    def request(self, node, service, *words, **options):
        return self.run_posthorn("request", "--node", node.endpoint, service, *words, **options)

    def test_every_end_has_its_status(self):
        node = Node(self)
        alone = self.request(node, "upper", "hello", "--timeout", "200ms")
        self.assert_fails(alone, 8, "no_replier")
        self.assert_fails(self.request(node, "upper", "hello", "--at-once"), 8, "no_replier")
        replier = self.reply(node, "upper", "tr a-z A-Z; echo \"$POSTHORN_HEADER_LANG\"; "
                                            "if [ \"$POSTHORN_TYPE\" = bad ]; then echo 'no such word' >&2; exit 3; fi")
        node.until_queue("upper", lambda row: row["consumers"] == 1, "a replier")
        done = self.request(node, "upper", "--header", "lang=en", "--timeout", "60", stdin=self.feed("hello"))
        self.assertEqual((done.wait(), done.out), (0, b"HELLOen\n"))
        done = self.request(node, "upper", "hello", "--json", "--timeout", "60")
        row = json.loads(done.out)
        self.assertEqual((row["status"], row["payload"]), ("ok", "HELLO\n"))
        bad = self.request(node, "upper", "hello", "--type", "bad", "--timeout", "60")
        self.assert_fails(bad, 7, "failed: no such word")
        replier.signal()
        self.assertEqual(replier.wait(), 0)

    def test_wrong_usage(self):
        for name in "svc.replies", "s" * 193:
            for words in ["request", name, "x"], ["reply", name, "--exec", "cat"]:
                self.assert_fails(self.run_posthorn(*words), 2, "not a service name: 1 to 192")
        self.assert_fails(self.run_posthorn("request", "svc", "x", "--timeout", "10000h"), 2, "1ms to 8760h")

    def test_a_replier_that_is_killed(self):
        node = Node(self)
        replier = self.reply(node, "slow", "echo begun >> begun; exec sleep 600")
        asked = self.spawn("request", "--node", node.endpoint, "slow", "x", "--timeout", "60")
        until(lambda: self.records("begun"), "it has begun")
        replier.kill()
        self.assert_fails(asked, 9, "replier_lost")
        self.assertEqual(self.records("begun"), ["begun"])

    def test_all_are_answered_and_none_is_begun_twice(self):
        items = 150
        node = Node(self)
        command = "item=$(cat); echo \"$item\" >> begun; sleep 0.01; printf %s \"$item\""

        def replier():
            return self.reply(node, "svc", command, "--concurrency", "2")

        def requester():
            return self.program([REQUESTER, node.endpoint, "svc", "asker", str(items), self.folder / "answers"],
                                "requester", stdin=subprocess.PIPE)

        def answers():
            return len({line.split()[0] for line in self.records("answers")})

        asks, replies, other = requester(), replier(), replier()
        for goal, kill in ((10, "replier"), (25, "requester"), (40, "node"), (55, "both"), (70, "all")):
            until(lambda: answers() >= goal, f"{goal} answers")
            if kill in ("replier", "both", "all"):
                replies.kill()
                replies = replier()
            if kill in ("node", "both", "all"):
                node.restart()
            if kill in ("requester", "all"):
                asks.kill()
                asks = requester()
        until(lambda: answers() == items, "all are answered", 120)
        begun = Counter(self.records("begun"))
        self.assertEqual([item for item, times in begun.items() if times > 1], [], "begun twice")
        fates = {}
        for line in self.records("answers"):
            number, status, *answer = line.split(" ")
            fates.setdefault(number, set()).add((status, " ".join(answer)))
            if status == "ok":
                self.assertEqual(" ".join(answer), f"item {int(number) - 1}")
            else:
                self.assertIn(status, ("replier_lost", "failed"), line)
        self.assertEqual([fate for fate in fates.values() if len(fate) > 1], [], "two answers to one request")
        self.assertGreater(sum("ok" in {status for status, _ in fate} for fate in fates.values()), items / 2)
        node.until_queue("svc", lambda row: row["ready"] + row["in_flight"] + row["dead"] == 0, "nothing is left")
        asks.handle.stdin.close()
        self.assertEqual(asks.wait(), 0)
        self.assertTrue(other.running())


if __name__ == "__main__":
    main()
