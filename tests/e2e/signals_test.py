"""SIGTERM ends a node and a worker in order; a second one ends them at once."""
import pathlib
import signal

from posthorn_e2e import Case, Node, main, until

SOON = 15.0  # seconds: far less than any patience inside


def ended(pid):
    """Gone, or waiting for whoever inherited it to notice."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


class NodeDrains(Case):
    def test_handlers_go_on(self):
        node = Node(self)
        self.send(node, "jobs", "job", "another")
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--until-empty", "--exec",
                            "read job; echo $job >> begun; while [ ! -e go ]; do sleep 0.05; done; echo $job >> done")
        until(lambda: self.records("begun"), "a job has begun")
        node.process.signal()
        self.assertEqual(node.process.wait(SOON), 0)
        self.assertIn("stopped", node.process.err)
        self.assertTrue(worker.running())
        self.write("go", "")
        until(lambda: self.records("done"), "the job ends although the node is away")
        node.start()
        self.assertEqual(worker.wait(), 0)
        self.assertEqual(self.records("begun"), ["job", "another"])
        self.assertEqual(self.records("done"), ["job", "another"])

    def test_senders_wait(self):
        node = Node(self)
        node.stop()
        sender = self.spawn("send", "--node", node.endpoint, "jobs", "one")
        node.start()
        self.assertEqual(sender.wait(), 0)
        node.stop()
        node.start()
        self.assertEqual(self.work(node, "jobs").lines, ["one"])

    def test_interrupt_does_the_same(self):
        node = Node(self)
        node.process.signal(signal.SIGINT)
        self.assertEqual(node.process.wait(SOON), 0)


class WorkerDrains(Case):
    def test_finishes_what_is_begun(self):
        node = Node(self)
        self.send(node, "jobs", lines=map(str, range(10)))
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--concurrency", "2", "--exec",
                            "read job; echo $job >> begun; while [ ! -e go ]; do sleep 0.05; done; echo $job >> done")
        until(lambda: len(self.records("begun")) == 2, "two jobs have begun")
        worker.signal()
        worker.wait_until_said("finishing what is begun")
        node.until_queue("jobs", lambda row: row["ready"] == 8, "what is not begun is given back")
        self.assertTrue(worker.running())
        self.write("go", "")
        self.assertEqual(worker.wait(SOON), 0)
        self.assertEqual(sorted(self.records("done")), sorted(self.records("begun")))
        row = node.queue("jobs")
        self.assertEqual((row["acked"], row["ready"], row["in_flight"], row["nacked"]), (2, 8, 0, 0), row)
        self.work(node, "jobs", "--exec", "echo $POSTHORN_ATTEMPT >> attempts")
        self.assertEqual(self.records("attempts"), ["1"] * 8, "given back uncharged")

    def test_second_signal(self):
        node = Node(self)
        self.send(node, "jobs", "job")
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--exec", "echo $$ >> begun; exec sleep 600")
        until(lambda: self.records("begun"), "the job has begun")
        worker.signal()
        worker.wait_until_said("finishing what is begun")
        self.assertTrue(worker.running())
        worker.signal()
        self.assertEqual(worker.wait(SOON), 0)
        command, = self.records("begun")
        until(lambda: ended(command), "the command is ended with it")
        self.assertEqual(self.work(node, "jobs", "--exec", "echo $POSTHORN_ATTEMPT").lines, ["1"])

    def test_killed_worker_takes_its_command_along(self):
        node = Node(self)
        self.send(node, "jobs", "job")
        worker = self.spawn("work", "--node", node.endpoint, "jobs", "--exec", "echo $$ >> begun; exec sleep 600")
        until(lambda: self.records("begun"), "the job has begun")
        command, = self.records("begun")
        self.assertFalse(ended(command))
        worker.kill()
        until(lambda: ended(command), "the command has ended")

    def test_interrupted_send(self):
        node = Node(self)
        node.kill()
        sender = self.spawn("send", "--node", node.endpoint, "jobs", "one", "two")
        sender.wait_until_said("no answer")
        sender.signal(signal.SIGINT)
        self.assert_fails(sender, 4, "sent 0, not confirmed 2", "interrupted")


if __name__ == "__main__":
    main()
