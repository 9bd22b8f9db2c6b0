"""The examples of what people meet: each does its work, and what it says it shows is so."""
import os
import pathlib
import re

import msgpack

from posthorn_e2e import BINARY, PATIENCE, Case, Node, main, until

PROGRAMS = pathlib.Path(BINARY).parent
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


class Examples(Case):
    def example(self, name, *arguments):
        return self.program([PROGRAMS / name, *arguments], name)

    def ends_well(self, process):
        self.assertEqual(process.wait(), 0, process.err)
        return process.lines

    def stops_well(self, process):
        process.signal()
        return self.ends_well(process)

    def test_encode(self):
        environment = {**os.environ, "POSTHORN_NODE": Node(self).endpoint}
        run = lambda role: self.program([PROGRAMS / "encode", role], role, environment=environment)
        self.assertEqual(self.ends_well(run("produce")), [])
        worker = run("work")
        until(lambda: worker.lines, "it has the job")
        self.assertEqual(self.stops_well(worker), ["cat.mov as 720p"])

    def test_the_five_patterns_in_every_home(self):
        lines = ["work queue: one of the workers does it", "point-to-point: one receiver, in order",
                 "fanout: every subscription gets it", "publish-subscribe: whoever listens now gets it",
                 "request-reply: 2 + 2 = 4"]
        for home in ([], [f"here:tcp://127.0.0.1:*?store={self.folder}/spool"], [Node(self).endpoint]):
            self.assertEqual(self.ends_well(self.example("patterns", *home)), lines, home)

    def test_point_to_point(self):
        self.assertEqual(self.ends_well(self.example("point_to_point")), [f"alice {i}" for i in range(1, 11)])

    def test_point_to_point_at_a_node(self):
        node = Node(self)
        bookings = b"".join(msgpack.packb({"account": "bob", "cents": 100 + i}) + b"\n" for i in range(20))
        sent = self.run_posthorn("send", "--node", node.endpoint, "ledger", stdin=self.feed(bookings))
        self.assertEqual(sent.wait(), 0)
        receiver = self.example("point_to_point", node.endpoint)
        until(lambda: len(receiver.lines) == 20, "all are booked")
        self.assertEqual(self.stops_well(receiver), [f"bob {100 + i}" for i in range(20)])

    def test_quote(self):
        self.assertEqual(self.ends_well(self.example("quote")),
                         ["ACME 12.500000", "INIT 99.000000", "NONE failed: nobody trades NONE"])

    def test_quote_at_a_node(self):
        node = Node(self)
        serving = self.example("quote", "serve", node.endpoint)
        node.until_queue("quotes", lambda row: row["consumers"] == 1, "it serves")
        self.assertEqual(self.ends_well(self.example("quote", "ask", "INIT", node.endpoint)), ["INIT 99.000000"])
        self.stops_well(serving)

    def test_logs(self):
        lines = self.ends_well(self.example("logs"))
        paid, refused = "info.payment order 7 paid", "error.payment card refused"
        shelf, up = "error.inventory no shelf 12", "info.shipping up since 8:00"
        wanted = {"errors": [refused, shelf], "payment": [paid, refused], "all": [paid, refused, shelf, up]}
        for name, texts in wanted.items():
            self.assertEqual([line for line in lines if line.startswith(name)], [f"{name}: {text}" for text in texts])
        self.assertEqual(len(lines), 8)

    def test_logs_at_a_node(self):
        node = Node(self)
        payment = self.example("logs", "payment", node.endpoint)
        node.until_queue("logs/payment", lambda row: row["consumers"] == 1, "it listens")
        for subject, status in (("info.payment", 0), ("error.inventory", 4), ("error.payment", 0)):
            done = self.run_posthorn("publish", "logs", "--subject", subject, "hear, hear", "--node", node.endpoint)
            self.assertEqual(done.wait(), status, "the one that nobody wants is refused")
        until(lambda: len(payment.lines) == 2, "it has heard what it wants")
        self.assertEqual(self.stops_well(payment),
                         ["payment: info.payment hear, hear", "payment: error.payment hear, hear"])

    def test_crawl(self):
        lines = self.ends_well(self.example("crawl"))
        self.assertEqual(sorted(line.split()[0] for line in lines), sorted(f"page{i}.html" for i in range(50)))

    def test_crawl_goes_on_when_a_crawler_and_the_node_are_killed(self):
        node = Node(self, "[queue.pages]\nlease = 1s\n")
        site = self.folder / "site"
        site.mkdir()
        names = ["index.html"] + [f"{i}.html" for i in range(1, 400)]
        for i, name in enumerate(names):
            links = [names[to % len(names)] for to in (3 * i, 3 * i + 1, 3 * i + 2, i + 7)]
            (site / name).write_text("".join(f'<p><a href="{link}">there</a>' for link in links))
        victim = self.example("crawl", site, node.endpoint)
        until(lambda: len(victim.lines) > 20, "it crawls")
        victim.kill()
        node.restart()
        crawlers = [self.example("crawl", site, node.endpoint) for _ in range(2)]
        node.until_queue("pages", lambda row: not row["ready"] + row["waiting"] + row["in_flight"],
                         "the site is done")
        lines = victim.lines + [line for crawler in crawlers for line in self.stops_well(crawler)]
        self.assertEqual({line.split()[0] for line in lines}, set(names))
        self.assertEqual(self.dlq(node, "list", "pages"), [])

    def test_images(self):
        node = Node(self)
        services = {name: self.example("images", name, node.endpoint) for name in ("thumbnail", "compression", "tags")}
        for name in services:
            node.until_queue(f"uploads/{name}", lambda row: row["consumers"] == 1, f"{name} is there")
        self.ends_well(self.example("images", "upload", self.folder, node.endpoint))
        for name in services:
            node.until_queue(f"uploads/{name}", lambda row, dead=name == "tags": row["acked"] + row["dead"] == 3 and
                             row["dead"] == dead, "it is done with all three")
        letter, = self.dlq(node, "list", "uploads/tags")
        self.assertEqual(letter["text"], f"no word for the colour of {self.folder}/grey.ppm")
        self.assertFalse((self.folder / "grey.ppm.tags").exists())
        self.stops_well(services["tags"])
        self.example("images", "tags", node.endpoint, "grey")
        self.assertEqual(self.dlq(node, "redrive", "uploads/tags")[0]["done"], 1)
        until((self.folder / "grey.ppm.tags").exists, "it has its tag")
        for name, rgb in (("red", b"\xe0\x10\x10"), ("blue", b"\x10\x20\xf0"), ("grey", b"\x80\x80\x80")):
            self.assertEqual((self.folder / f"{name}.ppm.tags").read_text(), name)
            self.assertEqual((self.folder / f"{name}.ppm.thumb").read_bytes(), b"P6 10 8 255\n" + rgb * 80)
            packed = (self.folder / f"{name}.ppm.rle").read_bytes()
            runs = [(packed[at], packed[at + 1:at + 4]) for at in range(0, len(packed), 4)]
            self.assertEqual(runs, [(255, rgb)] * 4 + [(180, rgb)])
        for name in ("thumbnail", "compression"):
            row = node.queue(f"uploads/{name}")
            self.assertEqual((row["acked"], row["dead"]), (3, 0), "the failure is none of theirs")

    def test_payment(self):
        node = Node(self)
        environment = {**os.environ, "POSTHORN_NODE": node.endpoint, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        script = self.program([EXAMPLES / "payment.sh"], "payment", environment=environment)
        lines = self.ends_well(script)
        self.assertEqual([line for line in lines if line.startswith("paid")],
                         ["paid order 1: 1990 cents", "paid order 3: 700 cents", "paid order 2: 1250 cents"])
        self.assertIn("order 2: 12,50 is no number of cents", script.out.decode())
        self.assertIn("edited and sent back 1", lines)
        row = node.queue("payments")
        self.assertEqual((row["ready"], row["dead"], row["acked"]), (0, 0, 3))

    def test_sensors(self):
        sensors = self.example("sensors", "100000")
        self.assertEqual(sensors.wait(4 * PATIENCE), 0, sensors.err)  # which is long under sanitizers
        line, = sensors.lines
        sent, shown, dropped, last, peak = [int(number) for number in re.findall(r"\d+", line)]
        self.assertEqual((sent, last), (100000, 100000), "the latest reading is shown")
        self.assertGreater(min(shown, dropped), 0)
        if not os.environ["POSTHORN_SANITIZE"]:  # which has memory of its own
            self.assertLess(peak, 80, "the readings alone, if all were kept, are 100")

    def test_prices(self):
        lines = self.ends_well(self.example("prices"))
        counts = {line.split(":")[0]: [int(number) for number in re.findall(r"\d+", line)] for line in lines}
        for received, missed, matched in counts.values():
            self.assertEqual((received + missed, matched), (matched, 10001), "its half, and the last one before")
        self.assertEqual(set(counts), {"quick", "slow"})

    def test_prices_at_a_node(self):
        node = Node(self)
        watch = self.example("prices", "watch", "price.eur.*", node.endpoint)
        node.until_queue("prices", lambda row: row["consumers"] == 1, "it watches")
        for market in [self.example("prices", "publish", "100", node.endpoint) for _ in range(2)]:
            self.ends_well(market)
        until(lambda: len(watch.lines) == 100, "it has half of either's")
        self.assertEqual(self.stops_well(watch)[-1], "watch: received 100, missed 0 of 100")

    def test_mail(self):
        lines = self.ends_well(self.example("mail"))
        self.assertRegex("\n".join(lines[:3]), r"^(order 1: no mail service: .*\n?){3}$")
        arrived = [line for line in lines if line.startswith("To:")]
        self.assertEqual(arrived, [f"To: alice@home.example, order {number}" for number in range(1, 6)])

    def tutorial(self, node, *words):
        environment = {**os.environ, "POSTHORN_NODE": node.endpoint}
        return self.program([PROGRAMS / "tutorials", *words], words[0], environment=environment)

    def test_tutorials_1_and_2(self):
        node = Node(self)
        for receiver, sender, words in (("receive", "send", []), ("worker", "new_task", ["A", "task."])):
            sent = f" [x] Sent {' '.join(words) or chr(39) + 'Hello World!' + chr(39)}"
            self.assertEqual(self.ends_well(self.tutorial(node, sender, *words)), [sent])
            receiving = self.tutorial(node, receiver)
            received = [f" [x] Received {' '.join(words) or 'Hello World!'}"] + [" [x] Done"] * len(words[:1])
            until(lambda: len(receiving.lines) == len(received), "it has it")
            self.assertEqual(self.stops_well(receiving), received)

    def test_tutorials_3_to_5(self):
        node = Node(self)
        for kind, bound, sent in (("", [], {"hello": True}),
                                  ("_direct", ["warning", "error"], {"error": True, "info": False}),
                                  ("_topic", ["*.critical", "kern.#"], {"kern": True, "cron.info": False})):
            listeners = [self.tutorial(node, "receive_logs" + kind, *bound) for _ in range(2)]
            topic = (kind[1:] + "_logs").lstrip("_")
            until(lambda: [row["consumers"] for name, row in node.queues().items() if name.startswith(topic + "/")] ==
                  [1, 1], "both listen")
            for subject, wanted in sent.items():
                emitted = self.tutorial(node, "emit_log" + kind, subject, *["disk"] * bool(kind))
                self.assertEqual(emitted.wait(), 0 if wanted else 1, "the one that nobody wants is refused")
            text, = [f" [x] Received {subject}{':disk' * bool(kind)}" for subject, wanted in sent.items() if wanted]
            for listener in listeners:
                until(lambda one=listener: one.lines, "it has what it wants")
                self.assertEqual(self.stops_well(listener), [text])

    def test_tutorial_6(self):
        node = Node(self)
        server = self.tutorial(node, "rpc_server")
        self.assertEqual(self.ends_well(self.tutorial(node, "rpc_client")), [" [x] Requesting fib(30)", " [.] Got 832040"])
        failed = self.tutorial(node, "rpc_client", "thirty")
        self.assertEqual((failed.wait(), failed.lines[-1]), (1, " [.] stoi"))
        self.assertEqual(self.stops_well(server), [" [.] fib(30)", " [.] fib(thirty)"])

    def test_the_tour_counts_the_lines_of_the_tutorials_as_they_are(self):
        tour = (EXAMPLES / "README.md").read_text()
        rows = re.findall(r"^\| (\d) .*?\((tutorials/\w+\.cpp)\).*?\((tutorials/\w+\.cpp)\) \| \d+ \| (\d+) \|", tour, re.M)
        self.assertEqual([row[0] for row in rows], list("123456"))
        for number, *files, said in rows:
            lines = [line for file in files for line in (EXAMPLES / file).read_text().splitlines()]
            code = [line for line in lines if line.strip() and not line.strip().startswith("//")]
            self.assertEqual(len(code), int(said), f"tutorial {number}")


main()
