"""ZeroMQ peers that are none of ours, or speak another version, or garbage: refused or ignored, and nobody else is
hurt."""
import contextlib
import os
import random
import socket
import threading

import msgpack
import zmq

from posthorn_e2e import Case, Node, main
from raw_client import RawClient


NO_NODE = "not a Posthorn process.*check the endpoint"


class ForeignPeers(Case):
    def setUp(self):
        self.node = Node(self)

    def tearDown(self):
        self.assert_serves(self.node)

    def client(self, kind=zmq.DEALER):
        client = RawClient(self.node.endpoint, kind)
        self.addCleanup(client.close)
        return client

    def refused(self, client):
        return client.hear_of("refused")[1]

    def test_other_socket_types(self):
        request = self.client(zmq.REQ)
        request.socket.send(b"hello?")
        push = self.client(zmq.PUSH)
        push.socket.sndtimeo = 1000
        subscriber = self.client(zmq.SUB)
        subscriber.socket.subscribe(b"")
        for peer in (request, subscriber):
            peer.socket.rcvtimeo = 1000
        with self.assertRaises(zmq.Again):
            push.socket.send(b"take this")  # never connected: the types do not fit
        with self.assertRaises(zmq.Again):
            subscriber.socket.recv()
        with self.assertRaises(zmq.Again):
            request.socket.recv()
        self.node.process.wait_until_said("malformed frame")  # a REQ's empty delimiter makes it two parts
        self.node.process.wait_until_said(f"dropped: {self.node.endpoint}: .*with a socket of another type")

    def test_keys(self):
        with socket.create_connection(("127.0.0.1", self.node.port)) as peer:
            peer.sendall(b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x00" + b"PLAIN".ljust(20, b"\0") + b"\0" * 32)
            self.node.process.wait_until_said(f"dropped: {self.node.endpoint}: .*it wants keys")

    def test_another_version(self):
        for change in ({"version": 2}, {"version": 0}, {"protocol": "trumpet"}):
            with self.subTest(change):
                client = self.client()
                client.hello("jobs", **change)
                answer = self.refused(client)
                self.assertEqual(answer["code"], "bad_version")
                self.assertIn("use matching releases", answer["text"])
                self.node.process.wait_until_said("bad_version")
        self.assertNotIn("jobs", self.node.queues())

    def test_hellos_that_are_refused(self):
        for change, code in (({"role": "spectator"}, "wrong_role"), ({"address": "a/b/c"}, "bad_name"),
                             ({"address": "x.dlq"}, "bad_name"), ({"address": ""}, "bad_name"),
                             ({"incarnation": None}, "malformed")):
            with self.subTest(change):
                client = self.client()
                client.hello("jobs", **change)
                answer = self.refused(client)
                self.assertEqual(answer["code"], code, answer)
                self.assertTrue(answer["text"])

    def test_unknown_keys(self):
        client = self.client()
        client.hello("jobs", surprise={"a": [1, 2, 3]})  # skipped
        self.assertEqual(client.hear_of_welcome()[1][0][1]["version"], 1)

    def test_garbage(self):
        chance = random.Random(1)
        good = msgpack.packb([0, 0, False, "hello", {"protocol": "posthorn", "version": 1, "role": "producer",
                                                     "address": "jobs", "incarnation": os.urandom(16), "attempt": 1}])
        frames = [b"", b"\xc1", b"\0", b"\x93", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff" * 1000,
                  b"\x91" * 100_000, b"\xc6\xff\xff\xff\xff",
                  good[:-1], good + b"\0", b"\xdb\x7f\xff\xff\xff" + b"x" * 1000,
                  chance.randbytes(200_000), b"x" * 262_144]
        for _ in range(500):
            broken = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            frames.append(bytes(broken[:chance.randint(1, len(broken))]))
        client = self.client()
        for frame in frames:
            client.socket.send(frame)
        client.socket.send_multipart([b"two", b"parts"])
        client.socket.send_multipart([b""] * 100)
        # The same link may still say a hello.
        client.hello("after")
        client.hear_of_welcome()

    def test_garbage_in_a_session(self):
        for body, code in ((("fly", {}), "unknown_command"), (("settle", {"acks": [[1, 1, 1]]}), "wrong_role"),
                           (("publish", {"m": [b"no envelope"]}), "malformed"),
                           (("publish", {"m": "not a list"}), "malformed")):
            with self.subTest(body):
                client = self.client()
                client.hello("jobs", oldest=1)
                client.epoch = client.hear_of_welcome()[0]
                client.say(*body)
                answer = self.refused(client)
                self.assertEqual(answer["code"], code, answer)
        self.assertEqual(self.node.queue("jobs")["ready"], 0)

    def test_frame_above_the_limit(self):
        client = self.client()
        client.socket.send(b"x" * 1_000_000)  # libzmq itself cuts the link
        self.assert_serves(self.node)

    def test_sessions_without_end(self):
        """Many ends on one link, none of which says bye."""
        client = self.client()
        for _ in range(500):
            client.incarnation = os.urandom(16)
            client.hello("jobs")
        client.hear_of_welcome()


class ForeignNodes(Case):
    """What the command says when whoever listens at the endpoint is no node of ours."""

    def assert_no_answer(self, *endpoints, words=None):
        asked = [(endpoint, self.spawn(*arguments, "--node", endpoint)) for endpoint in endpoints for arguments in (
            ["queues"], ["send", "--timeout", "4s", "jobs", "text"], ["work", "jobs", "--idle-exit", "4"])]
        for endpoint, process in asked:
            self.assert_fails(process, 3, f"no answer from {endpoint}: is a node running there", "--node",
                              *([f"{endpoint}.*{words}"] if words else []))

    def test_web_server(self):
        def answer(listener):
            with contextlib.suppress(OSError):  # the test is over, or they did not wait for it
                while True:
                    with listener.accept()[0] as peer:
                        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=answer, args=(listener,), daemon=True).start()
            self.assert_no_answer(f"tcp://127.0.0.1:{listener.getsockname()[1]}", words=NO_NODE)

    def test_silence(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.assert_no_answer(f"tcp://127.0.0.1:{listener.getsockname()[1]}", words=NO_NODE)

    def bound(self, kind):
        context = zmq.Context()
        bound = context.socket(kind)
        self.addCleanup(context.term)
        self.addCleanup(bound.close, linger=0)
        return bound, f"tcp://127.0.0.1:{bound.bind_to_random_port('tcp://127.0.0.1')}"

    def test_other_sockets(self):
        self.assert_no_answer(*(self.bound(kind)[1] for kind in (zmq.PUB, zmq.PULL)), words=NO_NODE)
        self.assert_no_answer(*(self.bound(kind)[1] for kind in (zmq.REP, zmq.ROUTER)))  # these types fit

    def test_node_of_another_version(self):
        router, endpoint = self.bound(zmq.ROUTER)
        router.rcvtimeo = 60_000
        sender = self.spawn("send", "--node", endpoint, "jobs", "text")
        peer, _ = router.recv_multipart()
        router.send_multipart([peer, msgpack.packb([0, 0, False, "refused",
                                                    {"code": "bad_version", "text": "version 7 is spoken here"}])])
        self.assert_fails(sender, 5, "bad_version: version 7 is spoken here", "not confirmed 1")


if __name__ == "__main__":
    main()
