"""A Posthorn client from docs/protocol.md alone, in some 260 lines of code: a Producer and a Worker.

It needs pyzmq and msgpack. The numbers in comments are the sections of that page. What it leaves out: it takes no more
jobs than it can begin at once, where the page advises a few more, and settles one by one. A client belongs to one
thread; a Worker runs its handlers in others, so that its heartbeats go on.
"""
import collections
import concurrent.futures
import dataclasses
import io
import logging
import os
import queue
import time

import msgpack
import zmq

FRAME, BATCH, IDLE = 262_144, 65_536, 10.0  # bytes, bytes, seconds
FIELDS = {"subject": 4, "type": 5, "timestamp": 6, "correlation_id": 11, "reply_to": 12, "content_type": 13,
          "traceparent": 14, "headers": 16, "payload": 31}  # of an envelope (3)
ACK, NACK, RELEASE, REJECT, UNDECODABLE = range(5)  # verdicts (6.6)
LINK = {zmq.IMMEDIATE: 1, zmq.LINGER: 0, zmq.SNDHWM: 0, zmq.MAXMSGSIZE: FRAME + 1024, zmq.HANDSHAKE_IVL: 2000,
        zmq.TCP_KEEPALIVE: 1}  # (1)
log = logging.getLogger("posthorn")


class Refused(Exception):
    """The host does not want us."""


class End:
    """What a producer and a worker share: link, frames and sessions (1, 2, 4)."""
    interval = 1.0  # between our signs of life, in seconds; more often than an idle end has to

    def __init__(self, endpoint, queue_name, name):
        self.queue_name, self.name, self.incarnation = queue_name, name, os.urandom(16)
        self.attempt, self.pause = 0, 1.0
        self.heard = self.idle_until = time.monotonic()
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        for option, value in LINK.items():
            self.socket.setsockopt(option, value)
        self.socket.connect(endpoint)
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)
        self.over()

    def over(self, wait=0.0):
        """The session has ended. After so many seconds we say hello."""
        self.open, self.epoch, self.hello_at = False, 0, time.monotonic() + wait

    def step(self, wait=0.0):
        """Handles what comes in within so many seconds, and does what is due. To be called again and again."""
        self.poller.poll(1000 * min(wait, self.interval / 2))
        try:
            while True:
                self.hear(self.socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            now = time.monotonic()
        busy = self.busy()
        if not busy:
            self.idle_until = now
        unheard = now - (max(self.heard, self.idle_until) if busy else self.heard)
        if self.open and unheard > 5 * (self.heartbeat if busy else IDLE):
            self.over()
        if not self.open and now >= self.hello_at:
            self.over(self.pause)
            self.attempt, self.pause, self.number = self.attempt + 1, min(2 * self.pause, 5.0), 0
            self.say("hello", {"protocol": "posthorn", "version": 1, "role": self.role, "address": self.queue_name,
                               "name": self.name, "incarnation": self.incarnation, "attempt": self.attempt,
                               "client": "posthorn.py", **self.hello()})
        self.advance(now)
        if self.open and now - self.said >= self.interval:
            self.say()

    def say(self, name=None, body=None):
        """Sends a command, in fragments if it is large; without a name a heartbeat."""
        joined = msgpack.packb(name) + msgpack.packb(body) if name else b""
        frames = [[name, body] if name else []]
        if len(joined) > FRAME - 32:
            frames = [[joined[at:at + BATCH]] for at in range(0, len(joined), BATCH)]
        for left, content in zip(range(len(frames) - 1, -1, -1), frames):
            self.number += 1 if self.epoch or len(frames) > 1 else 0
            try:
                self.socket.send(msgpack.packb([self.epoch, self.number, left > 0, *content]), zmq.NOBLOCK)
            except zmq.Again:  # the link is down; ZeroMQ is making it anew
                self.pause = 1.0
                return self.over(0.1)
        self.said = time.monotonic()

    def hear(self, frame):
        epoch, number, more, *content = msgpack.unpackb(frame)
        if epoch and number == 1 and not self.open:  # a welcome
            self.epoch, self.next, self.number, self.joined = epoch, 1, 0, b""
        if epoch and epoch != self.epoch:
            return
        if epoch:
            self.heard = time.monotonic()
            if number != self.next:
                return self.over() if number > self.next else None
            self.next += 1
            if content and isinstance(content[0], bytes):
                self.joined += content[0]
                content = [] if more else list(msgpack.Unpacker(io.BytesIO(self.joined)))
                self.joined = self.joined if more else b""
        for name, body in zip(content[::2], content[1::2]):
            if name == "welcome" and body["attempt"] != self.attempt:  # of an earlier hello
                self.epoch = 0
                return
            getattr(self, "on_" + name, lambda _: None)(body)

    def on_welcome(self, body):
        self.open, self.pause, self.said, self.heartbeat = True, 1.0, time.monotonic(), body["heartbeat"] / 1000

    def on_identify(self, _):
        self.over()

    def on_refused(self, body):
        if not self.open or body["code"] == "fenced":
            raise Refused(f"{body['code']}: {body.get('text', '')}")
        self.over(1.0)

    def on_bye(self, body):
        self.over(body.get("retry_after", 0) / 1000)

    def close(self):
        if self.open:
            self.say("bye", {})
        self.socket.close(linger=1000)


class Producer(End):
    """Sends to a queue. What is sent is kept until it is safe, and sent again after a reconnect (5)."""
    role = "producer"

    def __init__(self, endpoint, queue_name, name="", most=10_000):
        self.sequence, self.kept, self.unsent, self.most = 0, {}, collections.deque(), most
        self.refused = {}  # sequence -> why
        super().__init__(endpoint, queue_name, name)

    def send(self, payload, **fields):
        """Returns the sequence of the message. Waits while too many are not safe yet."""
        while len(self.kept) >= self.most:
            self.step(1.0)
        self.sequence += 1
        self.kept[self.sequence] = {FIELDS[name]: value for name, value in {**fields, "payload": payload}.items()}
        self.unsent.append(self.sequence)
        self.step()
        return self.sequence

    def flush(self, timeout=float("inf")):
        """Whether within so many seconds all are safe, or refused."""
        deadline = time.monotonic() + timeout
        while self.kept and time.monotonic() < deadline:
            self.step(1.0)
        return not self.kept

    def busy(self):
        return bool(self.kept)

    def hello(self):
        self.confirmed = next(iter(self.kept), self.sequence + 1) - 1
        return {"confirmed": self.confirmed, "oldest": next(iter(self.kept), 0)}

    def on_welcome(self, body):
        super().on_welcome(body)
        self.durable, self.limit, watermark = body.get("durable", False), body["message_limit"], body.get("watermark", 0)
        if self.durable and watermark < self.confirmed:
            log.error("the host has lost messages it had confirmed: it knows %d, we %d", watermark, self.confirmed)
        self.last = max(watermark, self.confirmed)
        self.unsent = collections.deque(sequence for sequence in self.kept if sequence > self.last)
        self.credit, self.used = (0, 0), (0, 0)  # messages, bytes
        self.on_confirm(body)

    def on_credit(self, body):
        self.credit = (body.get("messages", 0), body.get("bytes", 0))

    def on_confirm(self, body):
        for sequence, code, text, *_ in body.get("refused", ()):
            self.refuse(sequence, f"{code}: {text}")
        safe = [*body.get("settled", ()), (1, body.get("stored", 0) if self.durable else 0)]
        self.kept = {sequence: fields for sequence, fields in self.kept.items()
                     if not any(first <= sequence <= last for first, last, *_ in safe)}

    def refuse(self, sequence, why):
        if self.kept.pop(sequence, None):
            self.refused[sequence] = why

    def advance(self, _):
        """Publishes, as far as there is credit."""
        batch, size = [], 0
        while self.open and self.unsent and all(used < most for used, most in zip(self.used, self.credit)):
            sequence = self.unsent[0]
            previous = {3: self.last} if self.last != sequence - 1 else {}
            fields = {0: 1, 1: self.incarnation, 2: sequence, **previous, **self.kept[sequence]}
            envelope = msgpack.packb(dict(sorted(fields.items())))
            used = (self.used[0] + 1, self.used[1] + len(envelope))
            if len(envelope) > self.limit:
                self.refuse(self.unsent.popleft(), f"too_large: {len(envelope)} bytes; the host takes {self.limit}")
                continue
            if batch and size + len(envelope) > BATCH:
                self.say("publish", {"m": batch})
                batch, size = [], 0
            batch.append(envelope)
            size, self.used, self.last = size + len(envelope), used, self.unsent.popleft()
        if batch and self.open:
            self.say("publish", {"m": batch})


@dataclasses.dataclass
class Job:
    """A delivery, as a handler sees it."""
    payload: bytes
    fields: dict  # the others of the envelope, by name
    attempt: int
    redrives: int
    maybe_duplicate: bool
    lost: bool = False  # becomes true when the lease is over, or may be: somebody else may do it then
    verdict: tuple = None  # verdict, delay, text


class Worker(End):
    """Takes jobs from a queue and settles each, over reconnects as well (6)."""
    role = "consumer"

    def __init__(self, endpoint, queue_name, handler, name="", concurrency=1):
        """handler(job) returns when the job is done, or returns another verdict; if it raises, the job has failed."""
        self.handler, self.concurrency = handler, concurrency
        self.held = {}  # (offset, token) -> Job
        self.running, self.finished = concurrent.futures.ThreadPoolExecutor(concurrency), queue.SimpleQueue()
        self.draining, self.lease, self.ready = False, float("inf"), None
        super().__init__(endpoint, queue_name, name)
        self.woken, self.wake = os.pipe()
        self.poller.register(self.woken, zmq.POLLIN)

    def run(self, until):
        """Works until the condition holds, then ends what has begun. In `ready` is whether the queue has more."""
        while not until(self):
            self.step(1.0)
        self.draining = True
        if self.open:
            self.say("window", {})
        while self.held:
            self.step(1.0)
        self.close()

    def handle(self, key, job):
        verdict = (RELEASE, None, "")
        if time.monotonic() - self.heard < self.lease / 2 and not job.lost:
            try:
                verdict = (self.handler(job) or ACK, None, "")
            except Exception as why:  # the job has failed, not the worker
                verdict = (NACK, None, f"{type(why).__name__}: {why}")
        self.finished.put((key, job, verdict))
        os.write(self.wake, b".")

    def busy(self):
        return bool(self.held)

    def hello(self):
        self.ready, self.listed = None, set(self.held)
        return {"concurrency": self.concurrency, "held": [[*key, True] for key in self.held],
                "window": [0 if self.draining else self.concurrency, 32 << 20]}

    def on_welcome(self, body):
        super().on_welcome(body)
        self.lease = body["lease"] / 1000
        self.interval, self.settles, self.safe = min(1.0, self.lease / 4), collections.deque(), 0
        self.on_lost({"m": body.get("lost", ())})
        self.listed -= {tuple(key[:2]) for key in body.get("lost", ())}
        for key, job in self.held.items():
            if job.verdict:
                self.settle(key, job.verdict)

    def on_state(self, body):
        self.ready = body.get("ready", False)

    def on_deliver(self, body):
        for offset, token, attempt, redrives, maybe_duplicate, envelope, *_ in body["m"]:
            key = (offset, token)
            if key in self.listed:
                continue
            job = self.held[key] = Job(b"", {}, attempt, redrives, maybe_duplicate)
            try:
                read = msgpack.unpackb(envelope, strict_map_key=False)
                job.fields = {name: read[number] for name, number in FIELDS.items() if number in read}
                job.payload = job.fields.pop("payload", b"")
                self.running.submit(self.handle, key, job)
            except (TypeError, ValueError) as why:
                self.settle(key, (UNDECODABLE, None, str(why)))

    def settle(self, key, verdict):
        self.held[key].verdict = verdict
        if self.open:  # else the welcome will see to it
            self.settles.append(key)
            self.say("settle", {"others": [[*key, *verdict]]})

    def on_settled(self, body):
        for _ in range(body.get("count", self.safe) - self.safe):
            self.held.pop(self.settles.popleft(), None)
            self.safe += 1
        for stale in body.get("stale", ()):
            log.warning("settled too late, may be done again: %s", stale)

    def on_lost(self, body):
        for offset, token, *_ in body.get("m", ()):
            if job := self.held.pop((offset, token), None):
                job.lost = True

    def on_recall(self, _):
        self.say("recalled", {})  # all is begun

    def advance(self, now):
        while not self.finished.empty():
            os.read(self.woken, 1)
            key, job, verdict = self.finished.get()
            if self.held.get(key) is job:
                self.settle(key, verdict)
        if now - self.heard > self.lease:
            for job in self.held.values():
                job.lost = True
