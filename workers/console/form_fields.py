"""A form's fields and files, read within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.formparsers import MultiPartParser
from starlette.requests import Request

from workers.console.accounts import FILE_BYTES_MAX

FORM_BYTES_MAX: Final = 16_384
#: An account's files and secrets.
UPLOAD_BYTES_MAX: Final = 256 * 1024
_UPLOADS_MAX: Final = 4


class FormFields(dict[str, str]):
    """A form's fields, the first of each name. files: what was uploaded."""

    def __init__(self, fields: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        super().__init__(fields)
        self.files = files


async def read_form(request: Request) -> FormFields | None:
    """The fields and files of a form; None where it is too large. MultiPartException: it can't be
    read.
    """
    upload = request.headers.get("content-type", "").startswith("multipart/form-data")
    most, body = UPLOAD_BYTES_MAX if upload else FORM_BYTES_MAX, b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    if not upload:
        values = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
        return FormFields({name: value[0] for name, value in values.items()}, {})

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers,
        whole(),
        max_files=_UPLOADS_MAX,
        max_fields=32,
        max_part_size=FORM_BYTES_MAX,
    )
    fields, files = dict[str, str](), dict[str, bytes]()
    found = await parser.parse()
    for name, value in found.items():
        if isinstance(value, str):
            fields[name] = value
        else:
            files[name] = await value.read(FILE_BYTES_MAX + 1)
    await found.close()
    return FormFields(fields, files)
