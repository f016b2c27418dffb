"""Shards from a server: fetched whole, ahead of use, into a cache folder of bounded size."""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from unlabeled.data.images import log
from unlabeled.data.shardlist import Shard, base_name, shown

ATTEMPTS = 5
PAUSE = 1.0
"""Seconds before the second attempt; doubled before each further one."""
TIMEOUT = 30.0
PART = 2**20
LARGEST_INDEX = 2**28
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP states that another attempt may cure."""

OURS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)
"""Failures of this machine's disk."""


class NotThere(OSError):
    """A server says that it does not have a file (404, 410)."""


class ShardCache:
    """Fetches shards into a folder, and removes those whose use began longest ago for room.

    Of a window that slides over the shards, those that entered it first are done first, however
    often each is read.

    Processes may share the folder: a shard is fetched by one of them, and files appear whole.

    Args:
        folder: where shards lie.
        limit: bytes of all files in it at most, those on their way included.
        together: shards that must fit at one time, or they would be fetched again and again.

    Raises:
        ValueError: the limit holds fewer shards.
        OSError: a shard that cannot be had; the message names its URL and the last failure.
    """

    def __init__(self, folder: Path, *, limit: int, together: int) -> None:
        self.folder, self.limit, self.together = folder, limit, together
        self._running: dict[str, Future[Path]] = {}
        self._used: deque[str] = deque(maxlen=together)
        self._lock = threading.Lock()

    def path(self, shard: Shard) -> Path:
        """Return the local file of a shard, waiting for it if need be."""
        path = self._file(shard)
        if not self._whole(path, shard):
            path = self._start(shard).result()
        with self._lock:
            begins = shard.url not in self._used
            if begins:
                self._used.append(shard.url)
        if begins:
            with suppress(FileNotFoundError):
                _touch(path)  # its use begins: the last to be removed
        return path

    def prefetch(self, shard: Shard) -> None:
        """Begin to fetch a shard in a thread, unless it is there or others are on their way."""
        with self._lock:
            busy = bool(self._running)
        if not busy and not self._whole(self._file(shard), shard):
            self._start(shard)

    def _file(self, shard: Shard) -> Path:
        key = sha256(f"{shard.url}\n{shard.sha256}".encode()).hexdigest()
        return self.folder / f"{key[:16]}-{base_name(shard.url)}"

    @staticmethod
    def _whole(path: Path, shard: Shard) -> bool:
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        return shard.length is None or size == shard.length

    def _start(self, shard: Shard) -> Future[Path]:
        with self._lock:
            if shard.url in self._running:
                return self._running[shard.url]
            future: Future[Path] = Future()
            self._running[shard.url] = future

        def work() -> None:
            try:
                found = self._fetch(shard)
            except BaseException as error:  # raised again where the shard is asked for
                failure: BaseException | None = error
            else:
                failure = None
            with self._lock:
                del self._running[shard.url]
            if failure is None:
                future.set_result(found)
            else:
                future.set_exception(failure)

        threading.Thread(target=work, name="unlabeled-fetch", daemon=True).start()
        return future

    def _fetch(self, shard: Shard) -> Path:
        path = self._file(shard)
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.lock")):
            if self._whole(path, shard):  # by another process meanwhile
                return path
            part = path.with_name(f"{path.name}.part")
            try:
                retry(shard.url, lambda: self._download(shard, part))
                _touch(part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path

    def _download(self, shard: Shard, part: Path) -> None:
        with open_url(shard.url) as answer:
            said = answer.headers.get("Content-Length")
            length = int(said) if said is not None else shard.length
            if shard.length is not None and length != shard.length:
                raise ValueError(
                    f"{shown(shard.url)} is {length:,} bytes, the index says {shard.length:,}: "
                    "write the index again with `unlabeled data index`"
                )
            self._make_room(shard, part, length)
            most = length if length is not None else self.limit // self.together
            digest, count = sha256(), 0
            with part.open("r+b") as file:
                while block := answer.read(PART):
                    count += len(block)
                    if count > most:
                        raise ValueError(f"{shown(shard.url)} sends more than {most:,} bytes")
                    digest.update(block)
                    file.write(block)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        if length is not None and count != length:
            raise http.client.IncompleteRead(b"", length - count)
        if shard.sha256 is not None and digest.hexdigest() != shard.sha256:
            raise OSError("its sha256 is not the index's")

    def _make_room(self, shard: Shard, part: Path, length: int | None) -> None:
        """Reserve the space of a file, removing the shards whose use began longest ago."""
        need = length if length is not None else self.limit // self.together
        if need * self.together > self.limit:
            raise ValueError(
                f"{shown(shard.url)} is {need:,} bytes, and {self.together} shards must fit into "
                f"the cache folder of {self.limit:,} bytes at a time: give "
                f"data.disk_bytes={need * self.together}, or a smaller data.window"
            )
        with _locked(self.folder / "folder.lock"):
            part.unlink(missing_ok=True)
            files = sorted(
                (status.st_mtime_ns, status.st_size, path)
                for path in self.folder.iterdir()
                if path.suffix != ".lock" and (status := _status(path)) is not None
            )
            total = sum(size for _, size, _ in files)
            for _, size, path in files:
                if total + need <= self.limit:
                    break
                if path.suffix != ".part" or _abandoned(path):
                    path.unlink(missing_ok=True)
                    total -= size
            with part.open("wb") as file:
                file.truncate(need)


def _touch(path: Path) -> None:
    """Date a file now, to the nanosecond: the system's own dates are the same for some ms."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _abandoned(part: Path) -> bool:
    """Whether the process that was fetching a file is gone."""
    with part.with_name(f"{part.name.removesuffix('.part')}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# HTTP --------------------------------------------------------------------------------------------


def open_url(url: str) -> http.client.HTTPResponse:
    """Open an http(s) URL; raises what urllib does."""
    request = urllib.request.Request(url, headers={"User-Agent": "unlabeled"})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def read_text(url: str) -> str:
    """Return a small text from a server.

    Raises:
        NotThere: the server does not have it.
        OSError: it cannot be had.
    """
    content: list[bytes] = []

    def read() -> None:
        with open_url(url) as answer:
            content[:] = [answer.read(LARGEST_INDEX)]

    retry(url, read)
    return content[0].decode("utf-8", "replace")


def retry(url: str, work: Callable[[], None]) -> None:
    """Call until it succeeds, at most five times with growing pauses.

    Raises:
        NotThere: at once where the server does not have the file.
        OSError: every attempt failed, or none can help; the message names the URL.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            work()
            return
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise NotThere(
                    f"{shown(url)} is not there (HTTP {error.code}): check the address"
                ) from error
            if error.code not in PASSING:
                raise OSError(
                    f"{shown(url)} cannot be fetched: HTTP {error.code} {error.reason}"
                ) from error
            why = f"HTTP {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in OURS:
                raise
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            why = " ".join(str(reason).split()) or type(error).__name__
        if attempt < ATTEMPTS:
            pause = PAUSE * 2 ** (attempt - 1)
            log.warning("%s: %s; again in %g s", shown(url), why, pause)
            time.sleep(pause)
    raise OSError(f"{shown(url)} cannot be fetched after {ATTEMPTS} attempts: {why}")
