"""Whatever is wrong is named, with the way out; and it ends nobody who did nothing wrong."""
import contextlib
import http.client
import json
import os
import random
import re
import socket
import sqlite3
import ssl
import stat

from posthorn_e2e import ANY_PORT, BINARY, Case, Node, main, until

MIB = 1024 * 1024


class StartOfANode(Case):
    def start(self, *arguments, bind=ANY_PORT):
        return self.run_posthorn("node", "--bind", bind, *arguments)

    def configured(self, text):
        return self.start("--data", self.folder / "data", "--config", self.write("node.ini", text))

    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
            self.assert_fails(self.start("--data", self.folder / "data", bind=endpoint), 1, re.escape(endpoint),
                              "in use", "--bind|another")

    def test_data_in_use(self):
        node = Node(self)
        second = self.start("--data", node.data)
        self.assert_fails(second, 1, re.escape(str(node.data)), f"in use by process {node.process.handle.pid}",
                          "give another folder")
        self.assert_serves(node)

    def test_endpoints_that_are_none(self):
        for endpoint in ("127.0.0.1:5757", "http://127.0.0.1:80", "tcp://127.0.0.1", "tcp://127.0.0.1:port",
                         "tcp://127.0.0.1:70000", "ipc://", "nonsense"):
            for process in (self.start("--data", self.folder / "data", bind=endpoint),
                            self.run_posthorn("send", "--node", endpoint, "jobs", "text"),
                            self.run_posthorn("queues", "--node", endpoint)):
                self.assertIn(process.wait(), (1, 2), process.command)
                self.assertIn(endpoint, process.err)
                self.assertRegex(process.err.replace(endpoint, ""),
                                 "tcp://HOST:PORT|the port must be|the path is missing",
                                 "it says what an endpoint looks like")

    def test_address_of_another_machine(self):
        endpoint = "tcp://192.0.2.1:5757"
        self.assert_fails(self.start("--data", self.folder / "data", bind=endpoint), 1, re.escape(endpoint))

    def test_configuration(self):
        wrong = {
            "dota = here\n": ["dota", "auto_create", "min_free"],
            "[queue.jobs]\nmax_atempts = 3\n": ["max_atempts", "max_attempts", "when_full"],
            "[que.jobs]\nmax_attempts = 3\n": ["que.jobs", r"\[queue.NAME\]"],
            "[queue.a b]\nmax_attempts = 3\n": ["a b", "not a queue name"],
            "[queue.jobs]\nmax_attempts = many\n": ["queue.jobs.max_attempts", "many"],
            "[queue.jobs]\nmax_attempts = 0\n": ["queue.jobs", "max_attempts"],
            "[queue.jobs]\nlease = 5\n": ["queue.jobs.lease", "'5'", "10min"],
            "[queue.jobs]\nlease = 10ms\n": ["queue.jobs", "lease"],
            "[queue.jobs]\nmax_bytes = 5 furlongs\n": ["queue.jobs.max_bytes", "5 furlongs", "64MiB"],
            "[queue.jobs]\nbackoff = sometimes\n": ["queue.jobs.backoff", "exponential, fixed"],
            "[queue.jobs]\nwhen_full = explode\n": ["queue.jobs.when_full", "not one of automatic, block, reject, drop_oldest, dead_letter"],
            "auto_create = perhaps\n": ["auto_create", "on nor off"],
            "data = a\ndata = b\n": ["data", "given twice"],
            "not a setting\n": ["node.ini", "not a setting"],
            "\0\xff\0": ["node.ini"],
        }
        for text, patterns in wrong.items():
            with self.subTest(text):
                self.assert_fails(self.configured(text), 2, "node.ini", *patterns)
        self.assertFalse((self.folder / "data").exists(), "nothing was done")

    def test_configuration_that_cannot_be_read(self):
        missing = self.folder / "missing.ini"
        self.assert_fails(self.start("--config", missing), 2, re.escape(str(missing)), "No such file")
        self.assert_fails(self.start("--config", self.folder), 2, re.escape(str(self.folder)), "folder")

    def test_newer_format(self):
        node = Node(self)
        node.stop()
        file = node.data / "posthorn.db"
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            changed = db.execute("UPDATE meta SET value = value + 1 WHERE key = 'format'").rowcount
        self.assertEqual(changed, 1)
        before = self.rows(file)
        self.assert_fails(self.start("--data", node.data), 1, re.escape(str(file)), "format 3", "newer Posthorn")
        self.assertEqual(self.rows(file), before, "it is left as it was")

    @staticmethod
    def rows(file):
        with contextlib.closing(sqlite3.connect(file)) as db:
            return list(db.iterdump())

    def test_files_of_others(self):
        for what, content in (("noise", os.urandom(100_000)), ("text", b"my notes\n" * 1000)):
            with self.subTest(what):
                data = self.folder / what
                data.mkdir()
                file = self.write(f"{what}/posthorn.db", content)
                self.assert_fails(self.start("--data", data), 1, re.escape(str(file)), "not a database", r"\.recover")
                self.assertEqual(file.read_bytes(), content, "it is left as it was")

    def test_database_of_others(self):
        data = self.folder / "data"
        data.mkdir()
        file = data / "posthorn.db"
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            db.execute("CREATE TABLE notes(text TEXT)")
        before = self.rows(file)
        self.assert_fails(self.start("--data", data), 1, re.escape(str(file)), "another data folder")
        self.assertEqual(self.rows(file), before, "it is left as it was")

    def test_data_that_cannot_be_a_folder(self):
        file = self.write("file", "text")
        self.assert_fails(self.start("--data", file), 1, re.escape(str(file)), "(?i)another folder")
        self.assert_fails(self.start("--data", file / "below"), 1, re.escape(str(file)), "(?i)another folder")

    def test_data_that_cannot_be_written(self):
        self.folder.joinpath("locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        # Root may write anywhere, unless it gives that up.
        bound_by_modes = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
        node = self.program([*bound_by_modes, BINARY, "node", "--bind", ANY_PORT, "--data", self.folder / "locked"],
                            "node")
        self.assert_fails(node, 1, "locked", "writable")


class ServedAllTheSame(Case):
    """One node for each; it must serve when they are done."""

    def setUp(self):
        self.node = Node(self)

    def tearDown(self):
        self.assert_serves(self.node)

    def raw(self, text):
        with socket.create_connection(("127.0.0.1", self.node.port), timeout=10) as peer:
            with contextlib.suppress(OSError):  # the node may hang up at any byte of it
                peer.sendall(text)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass

    def test_bytes_that_are_no_message(self):
        greeting = b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x00NULL" + b"\0" * 48
        noise = random.Random(1)
        for text in [noise.randbytes(size) for size in (1, 9, 64, 1000, 300_000)] + [
                b"", b"\0" * 100, b"\xff" * 100_000, greeting, greeting + noise.randbytes(1000),
                greeting + b"\x02" + b"\xff" * 8, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]:
            self.raw(text)

    def named(self, what):
        return self.node.process.wait_until_said(f"dropped: {re.escape(self.node.endpoint)}: .*{what}")

    def test_http_request(self):
        peer = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=10)
        self.addCleanup(peer.close)
        with self.assertRaises((http.client.HTTPException, OSError)):
            peer.request("GET", "/")
            peer.getresponse()
        self.named("does not speak ZeroMQ.*only Posthorn's processes belong here")

    def test_tls(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.node.port), timeout=10) as peer:
            ssl.create_default_context().wrap_socket(peer, server_hostname="localhost")
        self.named("does not speak ZeroMQ")

    def test_flood(self):
        """Of a thousand there is a word now and then, and nothing else stays."""
        before = self.descriptors()
        for i in range(1000):
            with socket.create_connection(("127.0.0.1", self.node.port)) as peer:
                peer.sendall(b"junk" * (i % 3))
        self.named(r"\(1000\)")
        self.assertLess(self.node.process.err.count("dropped"), 10)
        until(lambda: self.descriptors() < before + 20, "the node has let go of all of them")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.node.process.handle.pid}/fd"))

    def test_peers_that_never_speak(self):
        silent = [socket.create_connection(("127.0.0.1", self.node.port)) for _ in range(50)]
        for peer in silent:
            self.addCleanup(peer.close)
        self.assert_serves(self.node)
        self.named("did not finish it in time")

    def test_too_large(self):
        lines = self.feed(b"one\n" + b"x" * (16 * MIB + 1) + b"\ntwo\n")
        sender = self.run_posthorn("send", "--node", self.node.endpoint, "jobs", stdin=lines)
        self.assert_fails(sender, 4, "message 2", "16777216", "sent 2, not confirmed 1")
        self.assertEqual(self.work(self.node, "jobs").lines, ["one", "two"])

    def test_nearly_too_large(self):
        text = os.urandom(8 * MIB - 1000).hex().encode()
        sender = self.run_posthorn("send", "--node", self.node.endpoint, "jobs", stdin=self.feed(text + b"\n"))
        self.assertEqual(sender.wait(), 0)
        self.assertEqual(self.work(self.node, "jobs").out, text + b"\n")

    def test_command_lines(self):
        for arguments, patterns in ((["send"], ["give the queue"]),
                                    (["send", "a/b", "text"], ["a/b", "not a queue name"]),
                                    (["send", "jobs.dlq", "text"], ["not a queue name", "dlq"]),
                                    (["send", "--cuont", "3", "jobs"], ["cuont", "--count", "--timeout"]),
                                    (["send", "--count", "three", "jobs"], ["--count", "three"]),
                                    (["send", "--header", "novalue", "jobs", "text"], ["novalue", "KEY=VALUE"]),
                                    (["work"], ["give one queue"]),
                                    (["work", "jobs", "--concurrency", "0"], ["--concurrency", "1 to 1000"]),
                                    (["queues", "--colour"], ["colour", "--json"]),
                                    (["qeues"], ["qeues", "queues"])):
            with self.subTest(arguments):
                self.assert_fails(self.run_posthorn(*arguments, environment=os.environ | {"POSTHORN_NODE":
                                  self.node.endpoint}), 2, *patterns)

    def test_node_of_the_environment(self):
        self.send(self.node, "jobs", "text")
        named = self.run_posthorn("queues", "--json", environment=os.environ | {"POSTHORN_NODE": self.node.endpoint})
        self.assertEqual(json.loads(named.out)["ready"], 1)


class Refused(Case):
    def test_smaller_limit_of_the_node(self):
        node = Node(self, config="message_limit = 64KiB\n")
        lines = b"x" * 1000 + b"\n" + b"y" * 100_000 + b"\nlast\n"
        sender = self.run_posthorn("send", "--node", node.endpoint, "jobs", stdin=self.feed(lines))
        self.assert_fails(sender, 4, "too.large", "sent 2, not confirmed 1")
        self.assertEqual([len(line) for line in self.work(node, "jobs").lines], [1000, 4])

    def test_unknown_queue(self):
        node = Node(self, config="auto_create = off\n[queue.known]\n")
        for arguments in (["send", "--timeout", "10s", "unknown", "text"], ["work", "unknown"],
                          ["work", "--until-empty", "unknown"], ["dlq", "list", "unknown"]):
            process = self.run_posthorn(*arguments, "--node", node.endpoint)
            self.assert_fails(process, 5, "unknown", "known")
        self.assert_serves(node, "known")

    def test_nobody_there(self):
        node = Node(self)
        node.kill()
        asked = [self.spawn(*arguments, "--node", node.endpoint) for arguments in (
            ["queues"], ["dlq", "list", "jobs"], ["work", "jobs", "--until-empty"],
            ["work", "jobs", "--idle-exit", "1"])]
        for process in asked:
            self.assert_fails(process, 3, re.escape(node.endpoint), "is a node running there", "--node")


if __name__ == "__main__":
    main()
