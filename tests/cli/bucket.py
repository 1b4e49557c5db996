"""A bucket on this machine, with as much of S3's protocol as reading and writing pictures takes."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest


class Bucket(ThreadingHTTPServer):
    """Objects by bucket and key.

    Attributes:
        objects: Their contents.
        parts: Those of uploads that are not complete.
        uploads: Their numbers; none comes twice.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.uploads = itertools.count()

    @property
    def options(self) -> str:
        """What makes a URI lead here."""
        return f"?endpoint_override=127.0.0.1:{self.server_port}&scheme=http&region=us-east-1"


@contextmanager
def bucket(patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Serve a bucket."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }.items():
        patch.setenv(name, value)
    with Bucket() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def log_message(self, *_: object) -> None:
        pass

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return unquote(parts.path).lstrip("/"), {
            name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
        }

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, content: bytes = b"", **headers: Any) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        key, _ = self._asked()
        if key in self.server.objects:
            # The length of what a GET would bring.
            self._answer(200, Content_Length=len(self.server.objects[key]))
        else:
            self._answer(200 if "/" not in key else 404)

    def do_GET(self) -> None:
        key, query = self._asked()
        if "list-type" in query:
            self._answer(200, _listing(self.server.objects, key.rstrip("/"), query), Content_Type="application/xml")
        elif key not in self.server.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", Content_Type="application/xml")
        else:
            content = self.server.objects[key]
            first, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
            self._answer(206, content[int(first) : int(last or len(content)) + 1])

    def do_PUT(self) -> None:
        key, query = self._asked()
        content = self._body()
        if "partNumber" in query:
            self.server.parts[query["uploadId"]][int(query["partNumber"])] = content
        else:
            self.server.objects[key] = content
        self._answer(200, ETag='"1"')

    def do_POST(self) -> None:
        key, query = self._asked()
        self._body()
        if "uploads" in query:
            upload = f"{next(self.server.uploads)}"
            self.server.parts[upload] = {}
            words = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        else:
            parts = self.server.parts.pop(query["uploadId"])
            self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
            words = '<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
        self._answer(200, words.encode(), Content_Type="application/xml")


def _listing(objects: dict[str, bytes], name: str, query: dict[str, str]) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    keys, folders = [], set()
    for full in sorted(objects):
        key = full.removeprefix(f"{name}/")
        rest = key.removeprefix(prefix)
        if not full.startswith(f"{name}/") or not key.startswith(prefix):
            continue
        if delimiter and delimiter in rest:
            folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
        else:
            keys.append(key)
    found = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[f'{name}/{key}'])}</Size></Contents>" for key in keys
    )
    found += "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(folders))
    count = f"<KeyCount>{len(keys) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
    return f"<ListBucketResult>{count}{found}</ListBucketResult>".encode()
