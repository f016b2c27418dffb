"""Tar shards of small images for tests, and a server on this machine that hands them out."""

from __future__ import annotations

import io
import tarfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


def picture(number, *, side=16, ending="PNG"):
    """An image whose pixels are all ``number``."""
    content = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), number, dtype=np.uint8)).save(content, ending)
    return content.getvalue()


def write_tar(path, members):
    """Write (name, content) pairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def fill(folder, *, shards=5, samples=6, labels=True, name="part-{:03d}.tar"):
    """Shards whose n-th image has the gray level n, and the class n % 3."""
    for shard in range(shards):
        members = []
        for place in range(samples):
            number = shard * samples + place
            members.append((f"{place:04d}.png", picture(number)))
            if labels:
                members.append((f"{place:04d}.cls", str(number % 3).encode()))
        write_tar(folder / name.format(shard), members)
    return folder


def levels(batch):
    return [int(image[0, 0, 0]) for image in batch["views"][0]]


class _Handler(SimpleHTTPRequestHandler):
    """Serves files; a plan of faults a name makes it fail so many times first."""

    def __init__(self, *args, server_state, **options):
        self.state = server_state
        super().__init__(*args, **options)

    def do_GET(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        self.state.asked.append(name)
        self.state.look()
        fault = self.state.faults.get(name, [])
        if fault:
            kind = fault.pop(0)
            if kind == "drop":
                self.send_response(200)
                self.send_header("Content-Length", "5000")
                self.end_headers()
                self.wfile.write(b"x" * 100)
                self.wfile.flush()
                self.connection.close()
                return
            self.send_error(kind)
            return
        super().do_GET()

    def log_message(self, *args):
        pass


class Server:
    def __init__(self, url):
        self.url, self.asked, self.faults = url, [], {}
        self.look = lambda: None


@contextmanager
def serving(folder):
    state = Server("")
    handler = partial(_Handler, directory=str(folder), server_state=state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
