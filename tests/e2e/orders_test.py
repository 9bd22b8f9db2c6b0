"""The example of fanout: its services get what is theirs, in one process and at a node that dies."""
import pathlib

from posthorn_e2e import BINARY, Case, Node, main, until

SERVICES = ("inventory", "notification", "shipping", "billing")


class Orders(Case):
    def example(self, *arguments):
        return self.program([pathlib.Path(BINARY).parent / "orders", *arguments], "orders")

    def check(self, service, lines, orders):
        numbers = [number for number in range(1, orders + 1) if service != "shipping" or number % 3 != 0]
        # At least once: a service whose node has died may do what it had not been told to be settled once more.
        self.assertEqual(sorted(set(lines)), sorted(f"{service} {number} lamp" for number in numbers))

    def test_in_one_process(self):
        example = self.example()
        self.assertEqual(example.wait(), 0, example.err)
        self.assertEqual(len(example.lines), 44)
        for service in SERVICES:
            self.check(service, [line for line in example.lines if line.startswith(service)], 12)

    def test_at_a_node_that_dies(self):
        node = Node(self)
        services = {service: self.example(service, node.endpoint) for service in SERVICES}
        for service in SERVICES:
            node.until_queue(f"orders/{service}", lambda row: row["consumers"] == 1, f"{service} is there")
        services["billing"].kill()
        placed = self.example("place", "3000", node.endpoint)
        node.kill()
        node.start()
        self.assertEqual(placed.wait(), 0, placed.err)
        services["billing"] = self.example("billing", node.endpoint)
        for service, process in services.items():
            wanted = 2000 if service == "shipping" else 3000
            until(lambda process=process, wanted=wanted: len(set(process.lines)) == wanted, f"{service} has all")
            process.signal()
            self.assertEqual(process.wait(), 0, process.err)
            self.check(service, process.lines, 3000)

    def test_words_it_does_not_know(self):
        example = self.example("bill")
        self.assertEqual(example.wait(), 1)
        self.assertIn("the name of a service", example.err)


main()
