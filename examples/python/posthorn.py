"""A Posthorn client from docs/protocol.md alone: a Producer and a Worker, for queues at nodes.

It needs pyzmq and msgpack. The numbers in comments are the sections of that page. To stay short it
makes a new link for each session, sends in batches and works on one job at a time (run several for
more), uses of an envelope only the payload, says a sign of life more often than it must, and leaves
it to TCP to find a node that is silent. A client belongs to one thread.
"""
import concurrent.futures
import contextlib
import os
import time

import msgpack
import zmq

PART = 65_536  # bytes of a fragment (2)
INTERVAL = 0.1  # seconds between signs of life: enough for the shortest lease, 1 s (4)
# Options of the socket (1); times in ms.
LINK = dict(immediate=1, linger=1000, sndhwm=0, sndtimeo=1000, rcvtimeo=5000, tcp_maxrt=8000)
ACK, NACK, RELEASE, REJECT = range(4)  # verdicts (6.6)


class Refused(Exception):
    """Of a batch, what the node did not take: {index: why}. All else is on its disk."""


class End:
    """What a producer and a worker share: links, frames and sessions (1, 2, 4)."""

    def __init__(self, endpoint, queue):
        self.endpoint, self.queue = endpoint, queue
        self.incarnation, self.attempt = os.urandom(16), 0

    def sessions(self, done):
        """Has one session after another, each over a link of its own, until it is done."""
        while not done():
            with (contextlib.suppress(ConnectionError, zmq.Again),
                  zmq.Context.instance().socket(zmq.DEALER) as self.socket):
                for name, value in LINK.items():
                    setattr(self.socket, name, value)
                self.socket.connect(self.endpoint)
                self.epoch, self.number, self.heard_number = 0, 0, 0
                self.fragments, self.attempt = msgpack.Unpacker(), self.attempt + 1
                self.say("hello", {"protocol": "posthorn", "version": 1, "address": self.queue,
                                   "incarnation": self.incarnation, "attempt": self.attempt,
                                   **self.hello()})
                self.hear()
                while not done():
                    self.step()
                self.say("bye", {})

    def step(self):
        """Handles what comes in, and says a sign of life when it is time for one."""
        if self.socket.poll(1000 * INTERVAL):
            self.hear()
        if time.monotonic() - self.said > INTERVAL:
            self.say()

    def say(self, *content, more=False):
        """Sends a command, a fragment or, of nothing, a heartbeat. zmq.Again: the link is lost."""
        self.number += 1 if self.epoch else 0
        self.socket.send(msgpack.packb([self.epoch, self.number, more, *content]))
        self.said = time.monotonic()

    def hear(self):
        """Handles a frame. zmq.Again: there was no answer."""
        self.epoch, number, more, *content = msgpack.unpackb(self.socket.recv())
        self.heard, self.heard_number = time.monotonic(), self.heard_number + 1
        if self.epoch and number != self.heard_number:
            raise ConnectionError("a frame was lost")
        if content and isinstance(content[0], bytes):
            self.fragments.feed(content[0])
            content = [] if more else list(self.fragments)
        for name, body in zip(content[::2], content[1::2]):
            getattr(self, "on_" + name, lambda _: None)(body)

    def on_bye(self, body):
        if self.epoch:
            self.say("bye", {"answer": True})
        time.sleep(body.get("retry_after", 0) / 1000)
        raise ConnectionError("the node ended the session, or does not know it")

    on_identify = on_bye

    def on_refused(self, body):
        raise RuntimeError(f"{body['code']}: {body.get('text', '')}")


class Producer(End):
    """Sends to a queue. What is not on the node's disk yet is sent again after a reconnect (5)."""
    stored = 0  # all up to this sequence are safe, or refused

    def send(self, payloads):
        """Returns when all are on the node's disk."""
        self.before, self.batch, self.refused = self.stored, list(payloads), {}
        self.sessions(lambda: self.stored == self.before + len(self.batch))
        if self.refused:
            raise Refused(self.refused)

    def hello(self):
        return {"role": "producer", "confirmed": self.stored, "oldest": self.stored + 1}

    def on_welcome(self, body):
        self.known = self.sent = body.get("watermark", 0)
        self.bytes, self.limit = 0, body["message_limit"]
        if self.known < self.stored:
            raise RuntimeError(f"the node has lost messages it had confirmed, up to {self.stored}")
        self.on_confirm(body)

    def on_confirm(self, body):
        for sequence, code, text, *_ in body.get("refused", ()):
            self.refused[sequence - self.before - 1] = f"{code}: {text}"
        self.stored = max(self.stored, body.get("stored", 0))

    def on_credit(self, body):
        """Publishes as much as may be in this session."""
        last = min(self.before + len(self.batch), self.known + body.get("messages", 0))
        while self.sent < last and self.bytes < body.get("bytes", 0):
            # Of what is too large no more is sent than it takes to be refused.
            payload = self.batch[self.sent - self.before][:self.limit]
            self.sent += 1
            envelope = msgpack.packb({0: 1, 1: self.incarnation, 2: self.sent, 31: payload})  # (3)
            self.bytes += len(envelope)
            command = msgpack.packb("publish") + msgpack.packb({"m": [envelope]})
            for at in range(0, len(command), PART):  # most are a single fragment
                self.say(command[at:at + PART], more=at + PART < len(command))


class Worker(End):
    """Takes jobs from a queue and settles each, over reconnects as well (6)."""

    def run(self, handler, until):
        """Works until the condition holds, and the node has confirmed how what was begun ended.

        handler(payload, attempt) does the job, or returns another verdict, or raises.
        """
        self.handler, self.until, self.held = handler, until, {}  # (offset, token) -> its job
        self.thread = concurrent.futures.ThreadPoolExecutor(1)  # so that signs of life go on
        self.sessions(lambda: until() and not self.held)

    def step(self):
        super().step()
        concurrent.futures.wait(self.held.values(), INTERVAL)
        for key, job in self.held.items():
            if job.done() and key not in self.settles:
                self.settles.append(key)
                self.say("settle", {"others": [[*key, *job.result()]]})

    def handle(self, key, attempt, envelope):
        if key not in self.held or time.monotonic() - self.heard > self.lease / 2:
            return RELEASE, None, ""  # somebody else may have it by now
        try:
            payload = msgpack.unpackb(envelope, strict_map_key=False).get(31, b"")
            return self.handler(payload, attempt) or ACK, None, ""
        except Exception as why:  # the job has failed, not the worker
            return NACK, None, f"{type(why).__name__}: {why}"[:1000]

    def hello(self):
        self.settles, self.settled = [], 0  # of this session: those that are not safe; how many are
        held = [[*key, True] for key in self.held]
        return {"role": "consumer", "window": [1, 32 << 20], "held": held}

    def on_welcome(self, body):
        self.lease = body["lease"] / 1000
        self.on_lost({"m": body.get("lost", ())})

    def on_lost(self, body):
        for offset, token, *_ in body["m"]:
            self.held.pop((offset, token), None)

    def on_deliver(self, body):
        for offset, token, attempt, _, _, envelope, *_ in body["m"]:
            if (key := (offset, token)) not in self.held and not self.until():  # else bye releases
                self.held[key] = self.thread.submit(self.handle, key, attempt, envelope)

    def on_settled(self, body):
        while self.settled < body.get("count", 0):
            self.held.pop(self.settles.pop(0), None)
            self.settled += 1
