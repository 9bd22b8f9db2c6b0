"""A wire between a worker and its node that can be stalled or cut."""
import socket
import threading

HOST = "127.0.0.1"


class Proxy:
    """Passes on to `port` whatever comes. stall(): nothing is passed on, nothing is closed. cut(): what is connected
    is closed and new connections are refused. go_on() ends either."""

    def __init__(self, port):
        self.target = port
        self.passing = threading.Event()
        self.passing.set()
        self.lock = threading.Lock()
        self.sockets = set()
        self.port = 0
        self.listen()

    @property
    def endpoint(self):
        return f"tcp://{HOST}:{self.port}"

    def listen(self):
        self.listener = socket.create_server((HOST, self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return  # cut
            try:
                far = socket.create_connection((HOST, self.target))
            except OSError:
                near.close()
                continue
            with self.lock:
                self.sockets |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(source, target), daemon=True).start()

    def pump(self, source, target):
        try:
            while bytes_read := source.recv(65536):
                self.passing.wait()
                target.sendall(bytes_read)
        except OSError:
            pass  # either side is gone, as it may
        self.drop({source, target})

    def drop(self, sockets):
        with self.lock:
            self.sockets -= sockets
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it
            except OSError:
                pass  # it has no other end any more
            one.close()

    def stall(self):
        self.passing.clear()

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()
        self.drop(set(self.sockets))

    def go_on(self):
        self.passing.set()
        if self.listener.fileno() < 0:
            self.listen()

    def close(self):
        if self.listener.fileno() >= 0:
            self.cut()
        self.passing.set()
