#!/bin/sh
# Guess: PushResult.is_successful of aiogetui is True when Getui took the push ("result": "ok"), and is_client_id_invalid is True when Getui says that
#   it knows no such phone ("result": "no_user"), so that its id is deleted.
# Behaviour: both are always False in aiogetui 0.4. They compare the words with "status", which says where the push went (successed_online,
#   successed_offline); the words stand in "result". A caller that sends again what was not successful rings each phone as often as it tries, and the
#   ids of phones that took the app off are sent to for ever.
# Versions: aiogetui 0.4, aiohttp 3.14.5, Python 3.11. Date: 2026-11-29.
# Seen: "taken, online: is_successful False; taken, offline: is_successful False; no_user: is_client_id_invalid False; 3 tries: Getui took 3"
# Exits 1 when a push that was taken is successful. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q aiogetui==0.4 aiohttp==3.14.5 2>/dev/null
venv/bin/python - <<'PY'
import asyncio, sys

from aiogetui import IGeTui, NotificationTemplate, ToSingleMessage
from aiohttp import web

ANSWERS = {
    "online": {"result": "ok", "taskid": "task", "status": "successed_online"},
    "offline": {"result": "ok", "taskid": "task", "status": "successed_offline"},
    "gone": {"result": "no_user"},
}
taken = []


async def sign(_):
    return web.json_response({"result": "ok", "auth_token": "token"}, content_type="text/html")


async def push(request):
    cid = (await request.json())["cid"]
    taken.append(cid)
    return web.json_response(ANSWERS[cid], content_type="text/html")


async def main():
    app = web.Application()
    app.add_routes([web.post("/v1/app/auth_sign", sign), web.post("/v1/app/push_single", push)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    IGeTui.SIGN_URL = f"http://127.0.0.1:{port}/v1/{{app_id}}/auth_sign"
    IGeTui.PUSH_SINGLE_URL = f"http://127.0.0.1:{port}/v1/{{app_id}}/push_single"
    getui = IGeTui("app", "key", "secret")

    async def send(cid):
        style = {"type": 0, "title": "Anna", "text": "hello"}
        return await getui.push(ToSingleMessage(cid, NotificationTemplate(style), is_offline=True))

    online, offline, gone = [await send(cid) for cid in ANSWERS]
    taken.clear()
    for _ in range(3):
        if (await send("online")).is_successful:
            break
    print(
        f"taken, online: is_successful {online.is_successful}; taken, offline: is_successful {offline.is_successful}; "
        f"no_user: is_client_id_invalid {gone.is_client_id_invalid}; 3 tries: Getui took {len(taken)}"
    )
    await getui.close()
    await runner.cleanup()
    return 0 if not online.is_successful or not gone.is_client_id_invalid else 1


sys.exit(asyncio.run(main()))
PY
