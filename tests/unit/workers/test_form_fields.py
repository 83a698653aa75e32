"""A form of the console: its fields and files, and what is too large."""

import asyncio

import pytest
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from workers.console.accounts import FILE_BYTES_MAX
from workers.console.form_fields import FORM_BYTES_MAX, UPLOAD_BYTES_MAX, FormFields, read_form

UPLOAD = "multipart/form-data; boundary=b"
NAMED = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def read(body: bytes, kind: str = "application/x-www-form-urlencoded") -> FormFields | None:
    """The body comes in pieces of 10,000 bytes."""
    pieces = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return asyncio.run(read_form(Request(scope, receive)))


def test_the_first_value_of_a_name_counts_and_files_stand_beside() -> None:
    assert read("name=喂&name=b&x=%26".encode()) == {"name": "喂", "x": "&"}
    secret = NAMED % (b"secret", b'; filename="key.p8"', b"\x00key")
    found = read(NAMED % (b"name", b"", b"ann") + secret + b"--b--\r\n", UPLOAD)
    assert found == {"name": "ann"}
    assert found is not None
    assert found.files == {"secret": b"\x00key"}


def test_what_is_too_large_is_not_read_and_a_large_file_is_known_as_one() -> None:
    assert read(b"x=" + b"y" * FORM_BYTES_MAX) is None
    assert read(b"y" * (UPLOAD_BYTES_MAX + 1), UPLOAD) is None
    large = NAMED % (b"f", b'; filename="f"', b"y" * (FILE_BYTES_MAX + 9)) + b"--b--\r\n"
    found = read(large, UPLOAD)
    assert found is not None
    assert len(found.files["f"]) == FILE_BYTES_MAX + 1
    with pytest.raises(MultiPartException):
        read(b"no boundary", "multipart/form-data")
