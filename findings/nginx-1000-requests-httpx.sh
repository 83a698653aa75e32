#!/bin/sh
# Guess: an HTTP/2 client of Python sends any number of pushes through nginx. nginx ends an HTTP/2 connection after 1000 requests
#   (keepalive_requests) with GOAWAY and NO_ERROR, and still answers all that it took: RFC 9113 (6.8) lets those streams come to their end.
# Behaviour: h2 takes any GOAWAY for the end and refuses whatever comes after it. httpx (0.28.1, and httpx2 2.16.2) fails the requests under way
#   with LocalProtocolError, which reads as a fault of the caller's own, although nginx passed most of them on: sent again they arrive twice, not
#   sent again some are lost. APNs and FCM, too, end connections with GOAWAY. curl, Node's http2 and Java 25 lose none that was taken.
# Versions: httpx 0.28.1, httpcore 1.0.9, h2 4.4.1, Python 3.11; nginx 1.22.1 of Debian 12. Date: 2026-11-29.
# Seen: "of 3000 pushes 2906 answered, 94 LocalProtocolError; the server behind nginx read 2934" (the numbers differ each time)
# Exits 1 when no push fails. Needs a Debian with apt, python3 and openssl.
set -eu
here=$(mktemp -d)
cd "$here"
behind= nginx=
trap 'kill $behind $nginx 2>/dev/null || true; rm -rf "$here"' EXIT
apt-get download -q nginx >/dev/null 2>&1
dpkg -x nginx_*.deb root
python3 -m venv venv
venv/bin/pip install -q 'httpx[http2]==0.28.1' httpcore==1.0.9 h2==4.4.1 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null

cat > behind.py <<'PY'
import asyncio, pathlib, socket

read = 0


async def serve(reader, writer):
    global read
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length: " in head:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    read += head.startswith(b"post")
    await asyncio.sleep(0.05)
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + (b"" if head.startswith(b"post") else b"%d" % read))
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    behind = server.sockets[0].getsockname()[1]
    temps = "".join(f"{kind}_temp_path t; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    pathlib.Path("nginx.conf").write_text(f"""daemon off; master_process off; pid nginx.pid; error_log stderr crit; events {{ worker_connections 512; }}
http {{ access_log off; {temps} server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate cert.pem; ssl_certificate_key key.pem;
location / {{ proxy_pass http://127.0.0.1:{behind}; }} }} }}\n""")
    pathlib.Path("ports").write_text(f"{port} {behind}\n")
    await server.serve_forever()


asyncio.run(main())
PY
python3 behind.py & behind=$!
while [ ! -s ports ]; do sleep 0.2; done
root/usr/sbin/nginx -p "$here" -c "$here/nginx.conf" & nginx=$!
read -r port server < ports
sleep 1

venv/bin/python - "$port" "$server" <<'PY'
import asyncio, collections, ssl, sys

import httpx

results = collections.Counter()


async def main(port, server):
    tls = ssl.create_default_context(cafile="cert.pem")
    at_once = asyncio.Semaphore(50)
    async with httpx.AsyncClient(http2=True, verify=tls, timeout=30) as client:

        async def push():
            async with at_once:
                try:
                    results[(await client.post(f"https://localhost:{port}/", content=b"{}")).status_code] += 1
                except httpx.HTTPError as error:
                    results[type(error).__name__] += 1

        await push()
        await asyncio.gather(*(push() for _ in range(2999)))
    answered, failed = results.pop(200), sum(results.values())
    read = int(httpx.get(f"http://127.0.0.1:{server}/").text)
    print(f"of 3000 pushes {answered} answered, {failed} {' '.join(results)}; the server behind nginx read {read}")
    sys.exit(0 if results["LocalProtocolError"] and read > answered else 1)


asyncio.run(main(*sys.argv[1:]))
PY
