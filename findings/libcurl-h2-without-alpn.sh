#!/bin/sh
# libcurl writes HTTP/2 into a TLS connection on which the server agreed on no protocol.
#
# Guess:     with CURLOPT_HTTP_VERSION = CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE an https:// request "still does HTTP/2 the standard
#            way with negotiated protocol version in the TLS handshake" (libcurl's page of the option), so a server that picks no
#            ALPN protocol gets no HTTP/2: an error before anything is written.
# Behaviour: the handshake ends without ALPN, and libcurl writes the HTTP/2 preface, SETTINGS and the whole request all the same.
#            Whoever counts "written and not answered" as perhaps done counts wrong; a server that does understand it acts on it.
# Versions:  pycurl 7.49.0 (its wheel: libcurl 8.23.0, OpenSSL 3.6.5, nghttp2 1.70.0), Python 3.11, Linux x86_64. 2026-11-28.
# Seen:      "ALPN: None; libcurl wrote b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' and the request's HEADERS frame: True"
# Exit 0 while it is so, 1 when it has changed, 2 when it could not be tried.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv >/dev/null && venv/bin/pip install -q --disable-pip-version-check pycurl==7.49.0 cryptography || exit 2
cat > try.py <<'PY'
import datetime, socket, ssl, sys, threading
import pycurl
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(key, hashes.SHA256())
open("cert.pem", "wb").write(made.public_bytes(serialization.Encoding.PEM))
form = serialization.PrivateFormat.PKCS8
open("key.pem", "wb").write(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")  # no set_alpn_protocols: the server agrees on nothing
listener, got = socket.create_server(("127.0.0.1", 0)), {}

def serve():
    raw, _ = listener.accept()
    with context.wrap_socket(raw, server_side=True) as tls:
        got["alpn"], got["octets"] = tls.selected_alpn_protocol(), b""
        tls.settimeout(1)
        try:
            while piece := tls.recv(65536):
                got["octets"] += piece
        except OSError:
            pass

thread = threading.Thread(target=serve)
thread.start()
easy = pycurl.Curl()
for option, value in (
    (pycurl.URL, f"https://localhost:{listener.getsockname()[1]}/x"), (pycurl.CAINFO, "cert.pem"), (pycurl.POSTFIELDS, b"{}"),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE), (pycurl.TIMEOUT_MS, 3000), (pycurl.NOPROXY, "*"),
):
    easy.setopt(option, value)
try:
    easy.perform()
except pycurl.error:
    pass
thread.join()
octets, at, request = got["octets"], 24, False
while at + 9 <= len(octets):
    length, kind = int.from_bytes(octets[at : at + 3], "big"), octets[at + 3]
    request, at = request or kind == 1, at + 9 + length
print(f"ALPN: {got['alpn']}; libcurl wrote {octets[:24]!r} and the request's HEADERS frame: {request}")
sys.exit(0 if got["alpn"] is None and octets.startswith(b"PRI * HTTP/2.0") and request else 1)
PY
venv/bin/python try.py
