#!/bin/bash
# Guess: publish_multiple of async-expo-push-notifications takes a message to a list of tokens, as its PushMessage says (to: "a token ... or a list of
#   tokens"), and gives back a ticket for each token, with the message that it belongs to.
# Behaviour: async-expo-push-notifications 2.3.1 posts it, Expo takes all of them, and then publish_multiple raises IndexError: it looks up each ticket's
#   message by the ticket's place, and a list has more tickets than messages. The tickets are lost, so no receipt can be asked for and a dead token is
#   never heard of; a task that is tried again after an exception rings every phone of the list once more each time. The async client does the same.
# Versions: async-expo-push-notifications 2.3.1, pydantic 2.14.4, Python 3.11. Date: 2026-11-29.
# Seen: "one message to 3 tokens: IndexError, Expo took 3; async: IndexError, Expo took 3; to one token each: 3 tickets, Expo took 3"
#   and "a task tried 3 times: Expo took 9"
# Exits 1 when the list gives its tickets. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q async-expo-push-notifications==2.3.1 pydantic==2.14.4 2>/dev/null
venv/bin/python - <<'PY'
import asyncio, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from exponent_server_sdk import AsyncPushClient, PushClient, PushMessage

taken = []


class Expo(BaseHTTPRequestHandler):
    """Takes every message: a ticket a recipient, in their order, as Expo's page of the API says."""

    def do_POST(self):
        tickets = []
        for message in json.loads(self.rfile.read(int(self.headers["content-length"]))):
            for token in message["to"] if isinstance(message["to"], list) else [message["to"]]:
                taken.append(token)
                tickets.append({"status": "ok", "id": f"ticket-{len(taken)}"})
        body = json.dumps({"data": tickets}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


expo = ThreadingHTTPServer(("127.0.0.1", 0), Expo)
threading.Thread(target=expo.serve_forever, daemon=True).start()
host = f"http://127.0.0.1:{expo.server_port}"
tokens = [f"ExponentPushToken[{number:022d}]" for number in range(3)]
to_list = [PushMessage(to=tokens, body="hello")]


async def publish_async(messages):
    async with AsyncPushClient(host=host) as client:
        return await client.publish_multiple(messages)


def publish(messages, call=PushClient(host=host).publish_multiple):
    """What the caller gets, and how many pushes Expo took for it."""
    taken.clear()
    try:
        got = f"{len(call(messages))} tickets"
    except Exception as error:
        got = type(error).__name__
    return got, len(taken)


one = publish(to_list)
awaited = publish(to_list, lambda messages: asyncio.run(publish_async(messages)))
single = publish([PushMessage(to=token, body="hello") for token in tokens])
tries = sum(publish(to_list)[1] for _ in range(3))
print(
    f"one message to 3 tokens: {one[0]}, Expo took {one[1]}; async: {awaited[0]}, Expo took {awaited[1]}; "
    f"to one token each: {single[0]}, Expo took {single[1]}"
)
print(f"a task tried 3 times: Expo took {tries}")
sys.exit(0 if one == ("IndexError", 3) else 1)
PY
