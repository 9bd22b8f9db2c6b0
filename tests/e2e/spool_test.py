"""A queue that lives in its producer, with a store: kill -9 of the producer, and who serves what it has left."""
import os
import re
import shutil
import subprocess

from posthorn_e2e import ANY_PORT, Case, Node, main, until

PRODUCER = os.environ["POSTHORN_KILLABLE_PRODUCER"]


class Host:
    """What a queue can be worked on at: a producer, as a node is."""

    def __init__(self, endpoint):
        self.endpoint = endpoint


class Spool(Case):
    def produce(self, count, folder="spool"):
        return self.program([PRODUCER, f"here:{ANY_PORT}?store={self.folder / folder}", "jobs", count], "producer",
                            stdin=subprocess.PIPE)

    def confirmed(self, producer):
        return max((int(line.split()[1]) for line in producer.lines if re.fullmatch(r"confirmed \d+", line)), default=0)

    def host(self, producer):
        line = until(lambda: next((line for line in producer.lines if line.startswith("at ")), None), "it is bound")
        return Host(line.split()[1])

    def left_by_a_killed_one(self):
        """How many messages it was told to be stored."""
        producer = self.produce(10_000_000)
        until(lambda: self.confirmed(producer) >= 5000, "it is in full flow")
        producer.kill()
        return self.confirmed(producer)

    def assert_first_ones(self, seen, least):
        self.assertGreaterEqual(len(seen), least)
        self.assertTrue(seen == [f"message {i}" for i in range(len(seen))], "not the first ones, once and in order")

    def test_a_node_serves_what_a_dead_producer_left(self):
        confirmed = self.left_by_a_killed_one()
        node = Node(self, data=self.folder / "spool")
        self.assert_first_ones(self.work(node, "jobs").lines, confirmed)
        self.assert_serves(node)
        node.stop()
        # The folder goes back to a producer: what the node served beside its queue is done.
        producer = self.produce(3)
        self.assert_first_ones(self.work(self.host(producer), "jobs").lines, 3)

    def test_a_producer_serves_what_its_former_life_left(self):
        confirmed = self.left_by_a_killed_one()
        shutil.copytree(self.folder / "spool", self.folder / "clone")
        for folder in "spool", "clone":
            producer = self.produce(2, folder)
            until(lambda: self.confirmed(producer) == 2, "its own are stored")
            *former, first, second = self.work(self.host(producer), "jobs").lines
            self.assert_first_ones(former, confirmed)
            self.assertEqual([first, second], ["message 0", "message 1"])

    def test_operators_reach_it_as_they_reach_a_node(self):
        producer = self.produce(1000)
        until(lambda: self.confirmed(producer) == 1000, "all are stored")
        endpoint = self.host(producer).endpoint
        self.assertIn('"store":"disk"', self.run_posthorn("queues", "--json", "--node", endpoint).out.decode())
        self.assertEqual(self.run_posthorn("backup", self.folder / "backup", "--node", endpoint).wait(), 0)
        copy = Node(self, data=self.folder / "backup")
        self.assert_first_ones(self.work(copy, "jobs").lines, 1000)

    def test_one_process_at_a_time(self):
        producer = self.produce(1)
        self.host(producer)
        second = self.produce(1)
        self.assert_fails(second, 1, f"{self.folder}/spool is in use by process {producer.handle.pid}")
        node = self.run_posthorn("node", "--data", self.folder / "spool", "--bind", ANY_PORT)
        self.assert_fails(node, 1, "is in use by process")

    def test_a_nodes_folder_with_other_queues_is_not_taken(self):
        node = Node(self, data=self.folder / "spool")
        self.send(node, "others", "one")
        node.stop()
        self.assert_fails(self.produce(1), 1, r"messages of other queues \(others\)", "posthorn node --data")


if __name__ == "__main__":
    main()
