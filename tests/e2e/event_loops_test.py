"""The examples of event loops: they do their work, their own and that of a node, and end in order."""
import os
import pathlib

from posthorn_e2e import BINARY, Case, Node, main

TEXT = b"\x81\xa4text\xa5to be\n"  # {"text": "to be"}


class EventLoops(Case):
    def example(self, name, *arguments):
        return self.program([pathlib.Path(BINARY).parent / name, *arguments], name)

    def works(self, name):
        own = self.example(name)
        self.assertEqual(own.wait(), 0, own.err)
        self.assertEqual(own.lines, ["600 words"])

        node = Node(self)
        sent = self.run_posthorn("send", "--node", node.endpoint, "texts", stdin=self.feed(TEXT * 20 + b"no text\n"))
        self.assertEqual(sent.wait(), 0)
        example = self.example(name, node.endpoint)
        node.until_queue("texts", lambda row: row["acked"] == 20 and row["dead"] == 1, "all is settled")
        example.signal()
        self.assertEqual(example.wait(), 0, example.err)
        self.assertEqual(example.lines, ["40 words"])

    def test_epoll(self):
        self.works("epoll")

    def test_asio(self):
        self.works("asio")

    def test_coroutine(self):
        self.works("coroutine")


main()
