#!/bin/sh
# Guess: a P-256 private key that certtool (GnuTLS) writes, unencrypted in PEM, loads in Python's cryptography as it does in OpenSSL.
# Behaviour: about every second one does not. GnuTLS 3.7.9 writes the number as a signed integer would be written, with a zero byte before a
#   first byte of 0x80 and more: an OCTET STRING of 33 bytes where RFC 5915 section 3 wants 32. openssl takes both; cryptography 50.0.2 refuses
#   the long ones: "Could not deserialize key data".
# Versions: gnutls-bin 3.7.9-2+deb12u7 (Debian 12), openssl 3.0, cryptography 50.0.2. Date: 2026-11-28.
# Seen: "16 keys: 32 bytes 9 (cryptography 9, openssl 9), 33 bytes 7 (cryptography 0, openssl 7)"
# Exits 1 when a key of 33 bytes loads, or GnuTLS writes none any more. Needs a Debian with apt, python3, openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
apt-get download -q gnutls-bin >/dev/null 2>&1
dpkg -x gnutls-bin_*.deb tools
python3 -m venv venv
venv/bin/pip install -q cryptography==50.0.2
for n in $(seq 16); do
  tools/usr/bin/certtool --generate-privkey --key-type=ecdsa --curve=secp256r1 --outfile "key$n.pem" >/dev/null 2>&1
done
venv/bin/python - <<'PY'
import base64, pathlib, subprocess, sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key

seen = {32: [0, 0, 0], 33: [0, 0, 0]}
for path in sorted(pathlib.Path().glob("key*.pem")):
    pem = path.read_text()
    der = base64.b64decode("".join(pem.split("-----BEGIN EC PRIVATE KEY-----")[1].split("-----END")[0].split()))
    counts = seen[der[6]]  # SEQUENCE, INTEGER 1, OCTET STRING of this length
    counts[0] += 1
    try:
        load_pem_private_key(pem.encode(), None)
        counts[1] += 1
    except ValueError:
        pass
    counts[2] += subprocess.run(["openssl", "pkey", "-in", path, "-noout"], capture_output=True, check=False).returncode == 0
words = [f"{size} bytes {n} (cryptography {python}, openssl {ssl})" for size, (n, python, ssl) in seen.items()]
print(f"{sum(n for n, _, _ in seen.values())} keys: {', '.join(words)}")
sys.exit(0 if seen[33][0] and not seen[33][1] and seen[33][2] == seen[33][0] else 1)
PY
