"""A Posthorn client from docs/protocol.md alone: a Producer and a Worker, for queues at nodes.

It needs pyzmq and msgpack. The numbers in comments are the sections of that page. To stay short it
uses of an envelope only the payload, takes no more jobs than it can begin at once, publishes and
settles one by one, says a sign of life more often than it must, repeats its hello every second, and
leaves it to TCP to find a node that is silent. A client belongs to one thread; a Worker runs its
handlers in others, so that its heartbeats go on.
"""
import collections
import concurrent.futures
import os
import time

import msgpack
import zmq

PART = 65_536  # bytes; a frame may have four times as many (2)
INTERVAL = 0.25  # seconds between signs of life: enough for the shortest lease, 1 s (4)
LINK = {"immediate": 1, "linger": 0, "sndhwm": 0, "tcp_maxrt": 8000}  # options of the socket (1)
ACK, NACK, RELEASE, REJECT = range(4)  # verdicts (6.6)


class End:
    """What a producer and a worker share: link, frames and sessions (1, 2, 4)."""

    def __init__(self, endpoint, address):
        self.address, self.incarnation, self.attempt = address, os.urandom(16), 0
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        for name, value in LINK.items():
            setattr(self.socket, name, value)
        self.socket.connect(endpoint)
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)
        self.over()

    def over(self, wait=0.0):
        """The session has ended; what is not safe is kept. After so many seconds we say hello."""
        self.open, self.epoch, self.hello_at = False, 0, time.monotonic() + wait

    def step(self, wait=0.0):
        """Handles what comes in within so many seconds, and does what is due. Call it often."""
        self.poller.poll(1000 * min(wait, INTERVAL))
        while self.socket.poll(0):
            self.hear(self.socket.recv())
        if not self.open and time.monotonic() >= self.hello_at:
            self.over(1.0)
            self.attempt, self.number = self.attempt + 1, 0
            self.say("hello", {"protocol": "posthorn", "version": 1, "role": self.role,
                               "address": self.address, "incarnation": self.incarnation,
                               "attempt": self.attempt, **self.hello()})
        self.work()
        if self.open and time.monotonic() - self.said >= INTERVAL:
            self.say()

    def say(self, *command):
        """Sends a command, in fragments if it is large; without one a heartbeat."""
        joined = b"".join(map(msgpack.packb, command))
        parts = [[joined[at:at + PART]] for at in range(0, len(joined), PART)]
        parts = parts if len(joined) > 2 * PART else [command]
        for left, content in zip(reversed(range(len(parts))), parts):
            self.number += 1 if self.epoch or len(parts) > 1 else 0
            frame = msgpack.packb([self.epoch, self.number, left > 0, *content])
            try:
                self.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:  # the link is down; ZeroMQ is making it anew
                return self.over(0.1)
        self.said = time.monotonic()

    def hear(self, frame):
        epoch, number, more, *content = msgpack.unpackb(frame)
        if epoch and number == 1 and not self.open:  # a welcome
            self.epoch, self.next, self.number, self.joined = epoch, 1, 0, b""
        if epoch and (epoch != self.epoch or number < self.next):
            return
        if epoch:
            if number > self.next:  # one was lost
                return self.over()
            self.heard, self.next = time.monotonic(), number + 1
            if content and isinstance(content[0], bytes):
                self.joined += content[0]
                if more:
                    return
                unpacker = msgpack.Unpacker(max_buffer_size=0)
                unpacker.feed(self.joined)
                content, self.joined = list(unpacker), b""
        for name, body in zip(content[::2], content[1::2]):
            if name == "welcome" and body["attempt"] != self.attempt:  # of an earlier hello
                return self.over(1.0)
            getattr(self, "on_" + name, lambda _: None)(body)

    def on_welcome(self, _):
        self.open, self.said = True, 0.0

    def on_bye(self, body):
        if self.open:
            self.say("bye", {"answer": True})
        self.over(body.get("retry_after", 0) / 1000)

    def on_identify(self, _):  # the node does not know the session
        self.over()

    def on_refused(self, body):
        if not self.open or body["code"] == "fenced":
            raise RuntimeError(f"{body['code']}: {body.get('text', '')}")
        self.over(1.0)

    def close(self):
        if self.open:
            self.say("bye", {})
        self.socket.close(linger=1000)


class Producer(End):
    """Sends to a queue. What is not on the node's disk yet is sent again after a reconnect (5)."""
    role = "producer"

    def __init__(self, endpoint, address):
        self.sequence, self.stored, self.refused = 0, 0, {}  # sequence -> why
        self.kept, self.unsent = collections.OrderedDict(), collections.deque()
        super().__init__(endpoint, address)

    def send(self, payload):
        """Waits while too many are not safe yet."""
        while len(self.kept) >= 10_000:
            self.step(1.0)
        self.sequence += 1
        self.kept[self.sequence] = payload
        self.unsent.append(self.sequence)
        self.step()

    def flush(self):
        """Returns when all are safe, or refused."""
        while self.kept:
            self.step(1.0)

    def hello(self):
        oldest = next(iter(self.kept), self.sequence + 1)
        self.last = oldest - 1
        return {"confirmed": self.last, "oldest": oldest if self.kept else 0}

    def on_welcome(self, body):
        super().on_welcome(body)
        if body.get("watermark", 0) < self.stored:
            raise RuntimeError(f"the node has lost messages it had confirmed, up to {self.stored}")
        self.limit, self.last = body["message_limit"], max(self.last, body.get("watermark", 0))
        self.unsent = collections.deque(sequence for sequence in self.kept if sequence > self.last)
        self.credit, self.messages, self.bytes = {}, 0, 0  # granted and used, in this session
        self.on_confirm(body)

    def on_credit(self, body):
        self.credit = body

    def on_confirm(self, body):
        for sequence, code, text, *_ in body.get("refused", ()):
            if self.kept.pop(sequence, None) is not None:
                self.refused[sequence] = f"{code}: {text}"
        self.stored = max(self.stored, body.get("stored", 0))
        while self.kept and next(iter(self.kept)) <= self.stored:
            self.kept.popitem(last=False)

    def work(self):
        """Publishes, as far as there is credit."""
        while (self.open and self.unsent and self.messages < self.credit.get("messages", 0)
               and self.bytes < self.credit.get("bytes", 0)):
            sequence = self.unsent.popleft()
            previous = {3: self.last} if self.last != sequence - 1 else {}
            envelope = msgpack.packb({0: 1, 1: self.incarnation, 2: sequence, **previous,
                                      31: self.kept[sequence]})  # (3)
            if len(envelope) > self.limit:
                why = f"{len(envelope)} bytes; the node takes {self.limit}"
                self.on_confirm({"refused": [[sequence, "too_large", why]]})
                continue
            self.last, self.messages = sequence, self.messages + 1
            self.bytes += len(envelope)
            self.say("publish", {"m": [envelope]})


class Worker(End):
    """Takes jobs from a queue and settles each, over reconnects as well (6)."""
    role, ready = "consumer", None  # whether the queue has more; None: not known

    def __init__(self, endpoint, address, handler, concurrency=1):
        """handler(payload, attempt) does the job, or returns another verdict, or raises."""
        self.handler, self.concurrency, self.window = handler, concurrency, concurrency
        self.held = {}  # (offset, token) -> how it is settled, or None while its handler runs
        self.threads = concurrent.futures.ThreadPoolExecutor(concurrency)
        self.finished = collections.deque()
        super().__init__(endpoint, address)
        self.wake = os.eventfd(0, os.EFD_SEMAPHORE)
        self.poller.register(self.wake, zmq.POLLIN)

    def run(self, until):
        """Works until the condition holds, then ends what has begun."""
        while not until(self):
            self.step(1.0)
        self.window = 0
        if self.open:
            self.say("window", {})
        while self.held:
            self.step(1.0)
        self.close()

    def hello(self):
        self.ready = None
        return {"concurrency": self.concurrency, "window": [self.window, 32 << 20],
                "held": [[*key, True] for key in self.held]}

    def on_welcome(self, body):
        super().on_welcome(body)
        self.lease = body["lease"] / 1000
        self.settles, self.settled = collections.deque(), 0
        self.on_lost({"m": body.get("lost", ())})
        for key in self.held:
            self.settle(key)

    def on_state(self, body):
        self.ready = body.get("ready", False)

    def on_deliver(self, body):
        for offset, token, attempt, _, _, envelope, *_ in body["m"]:
            if (offset, token) not in self.held:
                self.held[offset, token] = None
                self.threads.submit(self.handle, (offset, token), attempt, envelope)

    def handle(self, key, attempt, envelope):
        verdict = [RELEASE, None, ""]
        # else somebody else may have it by now
        if key in self.held and time.monotonic() - self.heard < self.lease / 2:
            try:
                payload = msgpack.unpackb(envelope, strict_map_key=False).get(31, b"")
                verdict = [self.handler(payload, attempt) or ACK, None, ""]
            except Exception as why:  # the job has failed, not the worker
                verdict = [NACK, None, f"{type(why).__name__}: {why}"]
        self.finished.append((key, verdict))
        os.eventfd_write(self.wake, 1)

    def work(self):
        while self.finished:
            os.eventfd_read(self.wake)
            key, verdict = self.finished.popleft()
            if key in self.held:  # it is not lost
                self.held[key] = verdict
                self.settle(key)

    def settle(self, key):
        if self.open and self.held[key]:  # else the welcome will see to it, or the handler's end
            self.settles.append(key)
            self.say("settle", {"others": [[*key, *self.held[key]]]})

    def on_settled(self, body):
        while self.settled < body.get("count", 0):
            self.held.pop(self.settles.popleft(), None)
            self.settled += 1

    def on_lost(self, body):
        for offset, token, *_ in body["m"]:
            self.held.pop((offset, token), None)

    def on_recall(self, _):
        self.say("recalled", {})  # all is begun
