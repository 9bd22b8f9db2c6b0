"""A producer written from docs/protocol.md alone, for what the command cannot send; and for saying things it never
would."""
import os

import msgpack
import zmq


class RawClient:
    def __init__(self, endpoint, kind=zmq.DEALER, patience=60.0):
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.epoch = self.number = 0
        self.incarnation = os.urandom(16)
        self.socket.immediate = 1  # nothing is queued for a link that is not up
        self.socket.linger = 0
        self.socket.rcvtimeo = self.socket.sndtimeo = int(patience * 1000)
        self.socket.connect(endpoint)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        self.context.term()

    def say(self, name, body, epoch=None):
        if epoch is None and self.epoch:
            self.number += 1
        self.socket.send(msgpack.packb([self.epoch if epoch is None else epoch, self.number, False, name, body]))

    def hear(self):
        """Epoch and commands of the next frame that has any."""
        while True:
            epoch, _, more, *rest = msgpack.unpackb(self.socket.recv())
            assert not more, "fragments are not expected here"
            if rest:
                return epoch, list(zip(rest[::2], rest[1::2]))

    def hear_of(self, name, wanted=lambda body: True):
        """The epoch and body of the next command of this name."""
        while True:
            epoch, commands = self.hear()
            for said, body in commands:
                if said == name and wanted(body):
                    return epoch, body
                assert said != "refused" or name == "refused", body

    def hello(self, queue, **others):
        body = {"protocol": "posthorn", "version": 1, "role": "producer", "address": queue,
                "incarnation": self.incarnation, "attempt": 1, **others}
        self.say("hello", {key: value for key, value in body.items() if value is not None}, epoch=0)

    def publish(self, queue, payload, **fields):
        """One message, until it is stored."""
        self.hello(queue, oldest=1)
        self.epoch, commands = self.hear_of_welcome()
        if not any(name == "credit" and body.get("messages") for name, body in commands):
            self.hear_of("credit", lambda body: body.get("messages"))
        keys = {"type": 5, "content_type": 13, "dedup_key": 15, "headers": 16}
        envelope = {0: 1, 1: self.incarnation, 2: 1, **{keys[name]: value for name, value in fields.items()},
                    31: payload}
        self.say("publish", {"m": [msgpack.packb(dict(sorted(envelope.items())))]})
        self.hear_of("confirm", lambda body: body.get("stored") == 1)
        self.say("bye", {})

    def hear_of_welcome(self):
        while True:
            epoch, commands = self.hear()
            if commands[0][0] == "welcome":
                return epoch, commands
