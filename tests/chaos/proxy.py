"""Small TCP chaos proxy (toxiproxy stand-in, standard library only).

toxics: reset_all() (RST every connection), blackhole(True/False) (accept but pass no byte),
orphan_all() (existing connections stay open but never carry another byte: a half-open peer),
latency / jitter, rate (bytes/s), refuse(True).
Use in-process with ThreadedProxy, or from a shell:
    python chaos_proxy.py LISTEN_PORT TARGET_PORT  then commands on stdin: reset | blackhole 1|0 |
    orphan | latency S | refuse 1|0
"""

import asyncio
import random
import socket
import struct
import sys
import threading


class Proxy:
    def __init__(self, target, port=0):
        self.target, self.port = target, port
        self.conns = set()
        self.hole = False
        self.refusing = False
        self.latency = self.jitter = 0.0
        self.rate = 0
        self.bytes = 0

    async def _pump(self, r, w, conn):
        try:
            while True:
                data = await r.read(65536)
                if not data:
                    break
                while self.hole or conn["orphan"]:
                    await asyncio.sleep(0.02)
                    if conn["dead"]:
                        return
                if self.latency or self.jitter:
                    await asyncio.sleep(self.latency + random.random() * self.jitter)
                if self.rate:
                    await asyncio.sleep(len(data) / self.rate)
                self.bytes += len(data)
                w.write(data)
                await w.drain()
        except (ConnectionError, OSError, asyncio.CancelledError):
            pass
        finally:
            if not conn["orphan"]:
                try:
                    w.close()
                except Exception:
                    pass

    async def _accept(self, cr, cw):
        if self.refusing:
            self._rst(cw)
            return
        try:
            sr, sw = await asyncio.open_connection(*self.target)
        except OSError:
            self._rst(cw)
            return
        conn = {"cw": cw, "sw": sw, "orphan": False, "dead": False}
        self.conns.add(id(conn))
        self._all[id(conn)] = conn
        await asyncio.gather(self._pump(cr, sw, conn), self._pump(sr, cw, conn))
        self.conns.discard(id(conn))
        self._all.pop(id(conn), None)

    @staticmethod
    def _rst(w):
        s = w.get_extra_info("socket")
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except Exception:
            pass
        w.transport.abort()

    async def start(self):
        self._all = {}
        self.srv = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self.srv.sockets[0].getsockname()[1]

    def _reset_all(self):
        n = 0
        for c in list(self._all.values()):
            c["dead"] = True
            self._rst(c["cw"])
            self._rst(c["sw"])
            n += 1
        return n

    def _orphan_all(self):
        n = 0
        for c in list(self._all.values()):
            c["orphan"] = True
            n += 1
            # the server side learns the peer is gone, the client side does not
            self._rst(c["sw"])
        return n

    async def end(self):
        self.srv.close()
        self._reset_all()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class ThreadedProxy:
    def __init__(self, target, port=0):
        self.loop = asyncio.new_event_loop()
        self.p = Proxy(target, port)
        self.t = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.t.start()
        asyncio.run_coroutine_threadsafe(self.p.start(), self.loop).result(5)
        self.port = self.p.port

    def _call(self, fn, *a):
        async def go():
            return fn(*a)

        return asyncio.run_coroutine_threadsafe(go(), self.loop).result(10)

    def reset_all(self):
        return self._call(self.p._reset_all)

    def orphan_all(self):
        return self._call(self.p._orphan_all)

    def blackhole(self, on):
        self._call(lambda: setattr(self.p, "hole", on))

    def refuse(self, on):
        self._call(lambda: setattr(self.p, "refusing", on))

    def set_latency(self, s, jitter=0.0):
        self._call(lambda: vars(self.p).update(latency=s, jitter=jitter))

    def stop(self):
        """Cuts what is open and ends the thread; nothing of the proxy is left."""
        asyncio.run_coroutine_threadsafe(self.p.end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.t.join(5)
        self.loop.close()


if __name__ == "__main__":
    px = ThreadedProxy(("127.0.0.1", int(sys.argv[2])), int(sys.argv[1]))
    print("listening", px.port, flush=True)
    for line in sys.stdin:
        a = line.split()
        if not a:
            continue
        if a[0] == "reset":
            print(px.reset_all())
        elif a[0] == "orphan":
            print(px.orphan_all())
        elif a[0] == "blackhole":
            px.blackhole(a[1] == "1")
        elif a[0] == "refuse":
            px.refuse(a[1] == "1")
        elif a[0] == "latency":
            px.set_latency(float(a[1]))
