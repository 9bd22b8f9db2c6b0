"""A topic and its subscriptions, by the command: each gets what it wants, over the node's deaths, and fails alone."""
import json
import subprocess

from posthorn_e2e import Case, Node, main, until

CONFIG = """
[topic.orders]
subscriptions = inventory
max_attempts = 2
backoff = 50ms

[subscription.orders/errors]
bindings = #.error
"""


class Topics(Case):
    def publish(self, node, topic, *texts, subject="order.placed", arguments=()):
        done = self.run_posthorn("publish", "--node", node.endpoint, topic, "--subject", subject, *arguments, *texts)
        self.assertEqual(done.wait(), 0, "publish did not succeed")

    def subscribe(self, node, topic, name, *arguments):
        """Works until the subscription is empty and expects it to end well."""
        done = self.run_posthorn("subscribe", "--node", node.endpoint, topic, "--as", name, "--until-empty", *arguments)
        self.assertEqual(done.wait(), 0, "subscribe did not succeed")
        return done

    def unsubscribe(self, node, address):
        done = self.run_posthorn("unsubscribe", address, "--json", "--node", node.endpoint)
        self.assertEqual(done.wait(), 0, "unsubscribe did not succeed")
        return json.loads(done.out)

    def test_all_subscriptions_get_all_they_want_over_deaths_of_the_node(self):
        node = Node(self, config=CONFIG)
        self.subscribe(node, "orders", "billing", "--match", "order.#")
        placed, failed = [f"placed {n}" for n in range(2000)], [f"failed {n}" for n in range(100)]
        self.publish(node, "orders", *failed, subject="order.error")
        node.restart()
        publisher = self.spawn("publish", "--node", node.endpoint, "--subject", "order.placed", "orders",
                               stdin=subprocess.PIPE)
        for half in placed[:1000], placed[1000:]:
            publisher.handle.stdin.write("".join(text + "\n" for text in half).encode())
            publisher.handle.stdin.flush()
            if half[0] == placed[0]:
                node.until_queue("orders/inventory", lambda row: row["ready"] > 100, "some have come")
                node.restart()
        publisher.handle.stdin.close()
        self.assertEqual(publisher.wait(), 0)
        self.publish(node, "orders", "disk", subject="system.error")
        node.restart()
        for name, expected in (("inventory", failed + placed + ["disk"]), ("billing", failed + placed),
                               ("errors", failed + ["disk"])):
            self.assertEqual(self.work(node, f"orders/{name}").lines, expected, name)
        rows = node.queues()
        self.assertEqual(set(rows), {"orders", "orders/inventory", "orders/billing", "orders/errors"})
        self.assertEqual({row["ready"] + row["dead"] for row in rows.values()}, {0})

    def test_one_fails_alone(self):
        node = Node(self, config=CONFIG)
        self.subscribe(node, "orders", "billing")
        self.publish(node, "orders", "good", "bad", "slow", subject="order.error")
        self.subscribe(node, "orders", "billing", "--exec",
                       'read text; echo "$POSTHORN_SUBJECT $text" >> seen; echo no >&2; '
                       'case $text in bad) exit 65;; slow) exit 1;; esac')
        self.assertEqual(sorted(self.records("seen")), ["order.error bad", "order.error good"] + 2 * ["order.error slow"])
        letters = self.dlq(node, "list", "orders/billing")
        self.assertEqual({(one["reason"], one["attempts"]) for one in letters}, {("rejected", 1), ("max_attempts", 2)})
        for name in "inventory", "errors":
            self.assertEqual(self.dlq(node, "list", f"orders/{name}"), [])
            self.assertEqual(node.queue(f"orders/{name}")["ready"], 3)
        node.restart()
        self.assertEqual(self.dlq(node, "redrive", "orders/billing")[0]["done"], 2)
        self.assertEqual(set(self.subscribe(node, "orders", "billing").lines), {"bad", "slow"})
        for name in "inventory", "errors":
            self.assertEqual(self.subscribe(node, "orders", name).lines, ["good", "bad", "slow"])

    def test_what_nobody_takes_is_refused(self):
        node = Node(self, config=CONFIG + "[subscription.alerts/errors]\nbindings = *.error\n")
        nobody = self.run_posthorn("publish", "--node", node.endpoint, "news", "one", "two")
        self.assert_fails(nobody, 4, "sent 0, not confirmed 2; refused by the node: 2; no subscription of news takes 2",
                          "posthorn subscribe news --as NAME")
        unwanted = self.run_posthorn("publish", "--node", node.endpoint, "--subject", "disk.ok", "alerts", "well")
        self.assert_fails(unwanted, 4, "no subscription of alerts takes 1 ")
        self.publish(node, "alerts", "broken", subject="disk.error")
        self.assertEqual(self.work(node, "alerts/errors").lines, ["broken"])

    def test_headers(self):
        node = Node(self)
        wanted = ("--header", "region=eu", "--header", "urgent=yes")
        self.subscribe(node, "orders", "both", *wanted)
        self.subscribe(node, "orders", "one", *wanted, "--any")
        self.subscribe(node, "orders", "all")
        self.publish(node, "orders", "plain")
        self.publish(node, "orders", "near", arguments=["--header", "region=eu"])
        self.publish(node, "orders", "now", arguments=wanted)
        node.restart()
        for name, expected in (("both", ["now"]), ("one", ["near", "now"]), ("all", ["plain", "near", "now"])):
            self.assertEqual(self.subscribe(node, "orders", name).lines, expected, name)

    def test_a_retained_topic_is_replayed_over_deaths_of_the_node(self):
        node = Node(self, config="[topic.events]\nretain_messages = 1000\n[topic.sized]\nretain_bytes = 1KiB\n"
                                 "[topic.aged]\nretain_age = 500ms\n")
        texts = [f"event {n}" for n in range(3000)]

        def subscribe(topic, *arguments):
            done = self.run_posthorn("subscribe", "--node", node.endpoint, topic, *arguments)
            self.assertEqual(done.wait(), 0, "subscribe did not succeed")
            return done.lines

        self.publish(node, "events", *texts[:1500])
        node.restart()
        node.until_queue("events/.retained", lambda row: row["ready"] == 1000, "what is older has gone")
        self.assertEqual(subscribe("events", "--from", "first", "--until-empty"), texts[500:1500])
        self.assertEqual(subscribe("events", "--from", "last", "--until-empty"), texts[1499:1500])
        self.assertEqual(subscribe("events", "--from", "1h", "--until-empty"), texts[500:1500])
        self.assertEqual(subscribe("events", "--from", "2100-01-31T12:00:05Z", "--until-empty"), [])
        places = subscribe("events", "--from", "first", "--count", "700", "--concurrency", "1", "--exec",
                           "echo $POSTHORN_SEQUENCE")[690:]
        self.assertEqual(subscribe("events", "--from", places[0], "--until-empty"), texts[1190:1500])

        self.subscribe(node, "events", "half", "--match", "half.#", "--from", "first")
        audit = self.spawn("subscribe", "--node", node.endpoint, "events", "--as", "audit", "--from", "first")
        publisher = self.spawn("publish", "--node", node.endpoint, "events", stdin=subprocess.PIPE)
        publisher.handle.stdin.write("".join(text + "\n" for text in texts[1500:]).encode())
        publisher.handle.stdin.flush()
        node.restart()
        publisher.handle.stdin.close()
        self.assertEqual(publisher.wait(), 0)
        until(lambda: texts[-1] in audit.lines and len(set(audit.lines)) >= 1000, "all of them have come")
        # What was on its way or just acked when the node died comes again, and behind others. A replay that was under
        # way then begins anew, with what is kept then.
        seen = set(audit.lines)
        self.assertEqual(seen, set(texts[3000 - len(seen):]))
        self.assertEqual(self.subscribe(node, "events", "half", "--match", "#", "--from", "first").lines, [])

        self.publish(node, "sized", *(["x" * 300] * 10))
        node.until_queue("sized/.retained", lambda row: 0 < row["bytes"] <= 1024, "what is more has gone")
        self.publish(node, "aged", "one", "two")
        node.until_queue("aged/.retained", lambda row: row["ready"] == 0, "what is older has gone")
        no = self.run_posthorn("subscribe", "--node", node.endpoint, "orders", "--as", "a", "--from", "first")
        self.assert_fails(no, 5, "orders keeps nothing .*retain_age")
        no = self.run_posthorn("subscribe", "--node", node.endpoint, "events", "--as", ".retained")
        self.assert_fails(no, 5, "events/.retained is what events retains")

    def test_unsubscribe(self):
        node = Node(self, config=CONFIG)
        self.subscribe(node, "orders", "billing")
        self.publish(node, "orders", "bad")
        self.subscribe(node, "orders", "billing", "--exec", "exit 65")
        self.publish(node, "orders", "one", "two")
        self.assertEqual(self.unsubscribe(node, "orders/billing"), {"messages": 2, "dead": 1})
        left = {"orders", "orders/inventory", "orders/errors"}
        self.assertEqual(set(node.queues()), left)
        node.restart()
        self.assertEqual(set(node.queues()), left)
        self.assertEqual(self.subscribe(node, "orders", "inventory").lines, ["bad", "one", "two"])
        for address in "orders/billing", "orders", "others":
            no = self.run_posthorn("unsubscribe", address, "--node", node.endpoint)
            self.assert_fails(no, 5 if "/" in address else 2, "is not a subscription|there is no subscription")
        node.stop()
        done = self.run_posthorn("inspect", node.data, "--json")
        self.assertEqual({row["name"] for row in map(json.loads, done.lines) if row["kind"] == "queue"}, left)

    def test_who_takes_from_what_is_removed_is_told(self):
        node = Node(self)
        subscriber = self.spawn("subscribe", "--node", node.endpoint, "orders", "--as", "billing", "--exec", "sleep 60")
        node.until_queue("orders/billing", lambda row: row["consumers"] == 1, "has its consumer")
        self.publish(node, "orders", "held")
        node.until_queue("orders/billing", lambda row: row["in_flight"] == 1, "is at work")
        self.unsubscribe(node, "orders/billing")
        self.assert_fails(subscriber, 5, "the subscription orders/billing was removed")
        self.assertNotIn("orders/billing", node.queues())

    def test_temporary(self):
        node = Node(self)
        watcher = self.spawn("subscribe", "--node", node.endpoint, "orders")
        name = until(lambda: next((one for one in node.queues() if one.startswith("orders/temporary-")), None),
                     "the subscription is there")
        self.publish(node, "orders", "seen")
        until(lambda: watcher.lines == ["seen"], "it is written out")
        watcher.signal()
        self.assertEqual(watcher.wait(), 0)
        until(lambda: name not in node.queues(), "it has gone")

    def test_exclusive(self):
        node = Node(self)
        first = self.spawn("subscribe", "--node", node.endpoint, "orders", "--as", "audit", "--exclusive")
        node.until_queue("orders/audit", lambda row: row["consumers"] == 1, "has its consumer")
        second = self.spawn("subscribe", "--node", node.endpoint, "orders", "--as", "audit")
        second.wait_until_said("exclusive: orders/audit has a consumer")
        self.publish(node, "orders", "one")
        until(lambda: first.lines == ["one"], "the first takes it")
        first.signal()
        self.assertEqual(first.wait(), 0)
        self.publish(node, "orders", "two")
        until(lambda: second.lines == ["two"], "the second takes over")

    def test_a_topic_is_no_queue(self):
        node = Node(self, config=CONFIG)
        self.send(node, "jobs", "one")
        self.assert_fails(self.run_posthorn("work", "orders", "--node", node.endpoint), 5, "orders is a topic .*orders/NAME")
        self.assert_fails(self.run_posthorn("publish", "jobs", "x", "--node", node.endpoint), 5, "jobs is a queue at this")
        self.assert_fails(self.run_posthorn("subscribe", "jobs", "--node", node.endpoint), 5, "jobs is a queue at this")
        self.send(node, "orders", "sent")
        self.assertEqual(self.work(node, "orders/inventory").lines, ["sent"])


if __name__ == "__main__":
    main()
