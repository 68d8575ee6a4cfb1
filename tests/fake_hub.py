"""A small Hub on 127.0.0.1 for tests: repository metadata, and files with ETags and ranges, as huggingface_hub asks for them.

It keeps a log of what was asked, and can be told to misbehave: to hang half-way, to send other bytes than it announces, to
refuse. It never opens a connection itself.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class FakeHub:
    """`repositories` maps `owner/name` or `datasets/owner/name` to {revision: {path: bytes}}; `main` names the commit of main."""

    repositories: dict[str, dict[str, dict[str, bytes]]]
    main: dict[str, str]
    gated: set[str] = field(default_factory=set)
    hang_after_bytes: dict[str, int] = field(default_factory=dict)  # by file name: so much is sent, then nothing
    sent_instead: dict[str, bytes] = field(default_factory=dict)  # by file name: what is sent, whatever was announced
    tamper: Callable[[dict], object] = lambda answer: None  # changes what is said of a repository
    etag: str | None = None  # said of every file instead of its hash
    log: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    def downloads(self) -> list[tuple[str, str | None]]:
        """The files whose content was asked for, in order, each with its Range."""
        return [(path.rsplit("/", 1)[1], bytes_asked) for method, path, bytes_asked in self.log if method == "GET" and "/resolve/" in path]


@contextmanager
def serve(hub: FakeHub):
    """The server runs inside; leaving stops it."""

    class Handler(_Handler):
        fake = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def log_message(self, *arguments):
        pass

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.fake.log.append((self.command, path, self.headers.get("Range")))
        if path.startswith("/api/"):
            self._metadata(path.removeprefix("/api/").removeprefix("models/"))
        else:
            self._file(*path.removeprefix("/").split("/resolve/"))

    def _commit(self, repo: str, revision: str) -> str | None:
        return self.fake.main.get(repo) if revision == "main" else revision if revision in self.fake.repositories[repo] else None

    def _metadata(self, path: str):
        repo, _, revision = path.partition("/revision/")
        if repo not in self.fake.repositories:
            return self._refuse(404, "RepoNotFound")
        if (commit := self._commit(repo, revision or "main")) is None:
            return self._refuse(404, "RevisionNotFound")
        siblings = []
        for name, content in self.fake.repositories[repo][commit].items():
            sibling = {"rfilename": name, "size": len(content), "blobId": _git_sha1(content)}
            if _is_large(name):
                sibling["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        answer = {"id": repo.removeprefix("datasets/"), "sha": commit, "siblings": siblings}
        self.fake.tamper(answer)
        body = json.dumps(answer).encode()
        self._send(200, body, {"Content-Type": "application/json"})

    def _file(self, repo: str, rest: str):
        revision, _, name = rest.partition("/")
        if repo in self.fake.gated:
            return self._refuse(403, "GatedRepo")
        content = self.fake.repositories[repo][revision][name]
        digest = hashlib.sha256(content).hexdigest() if _is_large(name) else _git_sha1(content)
        digest = self.fake.etag or digest
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": revision, "Accept-Ranges": "bytes"}
        if _is_large(name):
            headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        content = self.fake.sent_instead.get(name, content)
        status, first = 200, 0
        if asked := self.headers.get("Range"):
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            status, headers = 206, headers | {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        self._send(status, content[first:], headers, self.fake.hang_after_bytes.get(name))

    def _refuse(self, status: int, code: str):
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str], hang_after_bytes: int | None = None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(body[:hang_after_bytes])
            if hang_after_bytes is not None:
                self.wfile.flush()
                self.released.wait(30)
                self.close_connection = True
        except ConnectionError:  # the reader was killed: what the test wanted
            self.close_connection = True

    @property
    def released(self) -> threading.Event:
        return self.fake.released


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".parquet", ".bin"))


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
