"""HTTPS with the standard library: what all clients of this folder stand on."""

import ssl
import urllib.error
import urllib.request


class Web:
    def __init__(self, base, ca=None, timeout_s=10):
        self._base = base
        self._context = ssl.create_default_context(cafile=ca) if base.startswith("https") else None
        self._timeout_s = timeout_s

    def call(self, method, path, body=None, headers=None):
        """(status, body). URLError or OSError when there is no answer."""
        request = urllib.request.Request(self._base + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(
                request, context=self._context, timeout=self._timeout_s
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
