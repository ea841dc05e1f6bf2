"""moto's S3 API with a journal before it, so that it has its objects again after a kill: ``python -m tests.s3_server HOST PORT JOURNAL``.

moto keeps everything in memory. What changes something is written down before it is done, and done again at the next start,
before the first client is let in.
"""

import json
import re
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.test import EnvironBuilder, run_wsgi_app

from pace_tune.files import append_bytes

CHANGING = {"PUT", "POST", "DELETE"}
UPLOAD = re.compile(rb"<InitiateMultipartUploadResult.*<UploadId>([^<]+)</UploadId>", re.DOTALL)


class Journal:
    """A WSGI application around another one."""

    def __init__(self, app: Callable[..., Iterable[bytes]], file: Path) -> None:
        self.app = app
        self.renamed: dict[str, str] = {}
        """What an upload in parts was called before the start -> what it is called now."""
        for line in file.read_bytes().splitlines() if file.exists() else ():
            self._repeat(line)
        self.file, self.lock = file, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in CHANGING:
            # A chunked body ends by itself; any other has a length, and waiting for more would never end.
            chunked = environ.get("HTTP_TRANSFER_ENCODING", "") == "chunked"
            body = environ["wsgi.input"].read(*() if chunked else (int(environ.get("CONTENT_LENGTH") or 0),))
            environ["wsgi.input"] = BytesIO(body)
            kept = {key: value for key, value in environ.items() if isinstance(value, str)}
            self._write({"environ": kept, "body": b64encode(body).decode()})
        environ["QUERY_STRING"] = self._now(environ["QUERY_STRING"])
        answer = list(self.app(environ, start_response))
        if found := UPLOAD.search(b"".join(answer)):
            self._write({"upload": found[1].decode()})
        return answer

    def _write(self, line: dict[str, Any]) -> None:
        # Whole or not at all, also where the disk is full: the client is told, and tries again.
        with self.lock:
            append_bytes(self.file, json.dumps(line).encode() + b"\n")

    def _now(self, query: str) -> str:
        for before, now in self.renamed.items():
            query = query.replace(before, now)
        return query

    def _repeat(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except ValueError:  # half a line: the client was never answered
            return
        if "upload" in request:
            self.renamed[request["upload"]] = self.uploaded
            return
        environ = {
            **EnvironBuilder().get_environ(),
            **request["environ"],
            "wsgi.input": BytesIO(b64decode(request["body"])),
            "wsgi.input_terminated": True,
        }
        environ["QUERY_STRING"] = self._now(environ["QUERY_STRING"])
        answer, _, _ = run_wsgi_app(self.app, environ, buffered=True)
        found = UPLOAD.search(b"".join(answer))
        self.uploaded = found[1].decode() if found else ""


def main(host: str, port: str, journal: str) -> None:
    app = Journal(DomainDispatcherApplication(create_backend_app), Path(journal))
    run_simple(host, int(port), app, threaded=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
