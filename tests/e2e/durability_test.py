"""Nothing that was confirmed is lost, whatever happens to the node; `send` rides its deaths out."""
import re
import subprocess
from collections import Counter

from posthorn_e2e import PATIENCE, Case, Node, main


def numbers(first, last):
    return [f"message {number}" for number in range(first, last)]


def text(lines):
    return "".join(line + "\n" for line in lines).encode()


class Durability(Case):
    def assert_all_there(self, sent, seen):
        lost, strange = set(sent) - set(seen), set(seen) - set(sent)
        self.assertEqual(len(lost), 0, f"lost, as {sorted(lost)[:5]}")
        self.assertEqual(len(strange), 0, f"never sent, as {sorted(strange)[:5]}")

    def test_confirmed_is_kept(self):
        node = Node(self)
        sent = numbers(0, 5000)
        self.assertIn("sent 5000", self.send(node, "jobs", lines=sent).err)
        node.restart()
        self.assertEqual(node.queue("jobs")["ready"], 5000)
        self.assertTrue(self.work(node, "jobs").lines == sent, "each once and in order: nobody had them before")
        node.restart()
        self.assertEqual(node.queue("jobs")["ready"], 0, "acks that were confirmed are kept as well")

    def test_kills_while_sending(self):
        """In full flow, so that at each kill there are messages on their way in all states."""
        node = Node(self)
        parts, part = 6, 70_000
        sent = numbers(0, parts * part)
        sender = self.spawn("send", "--node", node.endpoint, "jobs", stdin=subprocess.PIPE)
        for number in range(parts):
            # Returns when it has read nearly all of them.
            sender.handle.stdin.write(text(sent[number * part:(number + 1) * part]))
            if number < parts - 1:
                node.until_queue("jobs", lambda row: row["ready"] > number * part, "some of these have arrived")
                node.restart()
        sender.handle.stdin.close()
        self.assertEqual(sender.wait(), 0)
        self.assertIn(f"sent {len(sent)}\n", sender.err)
        node.restart()
        seen = self.work(node, "jobs", timeout=4 * PATIENCE).lines
        self.assert_all_there(sent, seen)
        self.assertEqual(len(seen), len(sent), "what is sent again is recognised")
        self.assertTrue(seen == sent, "not in the order in which they were sent")

    def test_kills_while_working(self):
        node = Node(self, config="[queue.*]\nlease = 5s\n")
        count, kills = 30000, 3
        self.send(node, "jobs", lines=numbers(0, count))
        # It can go no faster than we read, so that it is in the middle whenever the node dies.
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--until-empty", "--concurrency", "2",
                            stdout=subprocess.PIPE)
        seen = Counter()
        for _ in range(kills):
            seen.update(worker.handle.stdout.readline().decode().rstrip() for _ in range(count // 10))
            self.assertLess(node.queue("jobs")["acked"], count)
            node.restart()
        seen.update(line.decode().rstrip() for line in worker.handle.stdout)
        self.assertEqual(worker.wait(), 0)
        self.assert_all_there(numbers(0, count), seen)
        self.assertEqual([line for line, times in seen.items() if times > 1 + kills], [], "more than once per kill")
        left = node.queue("jobs")
        self.assertEqual((left["ready"], left["in_flight"], left["dead"]), (0, 0, 0))


class Sending(Case):
    def test_waits_for_a_node_that_comes_back(self):
        node = Node(self)
        node.kill()
        sender = self.spawn("send", "--node", node.endpoint, "jobs", "one", "two")
        sender.wait_until_said("no answer from " + re.escape(node.endpoint) + " yet; waiting for it")
        node.start()
        self.assertEqual(sender.wait(), 0)
        self.assertIn("sent 2\n", sender.err)
        self.assertEqual(self.work(node, "jobs").lines, ["one", "two"])

    def test_gives_up_on_a_node_that_stays_dead(self):
        node = Node(self)
        sender = self.spawn("send", "--node", node.endpoint, "--timeout", "10s", "jobs", stdin=subprocess.PIPE)
        sender.handle.stdin.write(text(numbers(0, 100)))
        sender.handle.stdin.flush()
        node.until_queue("jobs", lambda row: row["ready"] == 100, "all have arrived")
        node.kill()
        sender.handle.stdin.write(text(numbers(100, 150)))
        sender.handle.stdin.close()
        self.assertEqual(sender.wait(), 4)
        told = re.search(r"sent (\d+), not confirmed (\d+)", sender.err)
        self.assertTrue(told, "it says how many are not confirmed")
        sent, unconfirmed = map(int, told.groups())
        self.assertEqual(sent + unconfirmed, 150)
        self.assertGreaterEqual(unconfirmed, 50)
        node.start()
        self.assertGreaterEqual(node.queue("jobs")["ready"], sent, "what it counts as sent is there")

    def test_nobody_there(self):
        node = Node(self)
        node.kill()
        sender = self.run_posthorn("send", "--node", node.endpoint, "--timeout", "1s", "jobs", "one")
        self.assert_fails(sender, 3, "not confirmed 1", "no answer from " + re.escape(node.endpoint), "posthorn node")


if __name__ == "__main__":
    main()
