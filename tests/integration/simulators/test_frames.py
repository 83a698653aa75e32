"""What the simulators' HTTP/2 does on the wire, frame by frame."""

import json
import socket
import ssl
import time
import uuid

import pytest

from tests import simulator_keys as keys
from tests.integration.simulators.frames import Client

KEY = keys.ec_key()
JWT = keys.provider_token(KEY, kid="FRAMES1234")
REFUSED_STREAM, INTERNAL_ERROR, PROTOCOL_ERROR = 7, 2, 1


@pytest.fixture
def client(apns):
    one = Client(apns.ca_file, apns.port("APNS_SANDBOX"))
    one.until(lambda: one.limits)
    yield one
    one.close()


def token() -> str:
    return f"a0a0{uuid.uuid4().hex}{uuid.uuid4().hex[4:]}"  # a prefix without a meaning


def push(client: Client, device: str | None = None, **more) -> tuple[int, str]:
    """(stream, push id)"""
    push_id = str(uuid.uuid4())
    bearer = ("authorization", f"bearer {JWT}")
    headers = [bearer, ("apns-topic", "com.example.chat"), ("apns-id", push_id)]
    return client.ask(
        f"/3/device/{device or token()}", [*headers, *more.pop("headers", [])], **more
    ), push_id


def recorded(apns, ids) -> set:
    ids = set(ids)
    return {line["id"] for line in apns.tell("record") if line["id"] in ids}


def test_many_streams_of_one_write_are_all_answered(apns, client):
    sent = dict(push(client) for _ in range(100))
    client.flush()
    client.until(lambda: len(client.answers) == 100)
    assert {stream: answer[1]["apns-id"] for stream, answer in client.answers.items()} == sent
    assert recorded(apns, sent.values()) == set(sent.values())


def test_goaway_tells_the_last_stream_it_looked_at_and_the_record_agrees(apns, client):
    apns.tell("faults", {"goaway_after": 40})
    sent = dict(push(client) for _ in range(100))
    client.flush()
    client.until(lambda: client.goaway)
    last, code = client.goaway
    done = {stream: push_id for stream, push_id in sent.items() if stream <= last}
    client_closed = not client.open
    assert (code, len(done), client_closed) == (0, 40, False)
    assert set(client.answers) == set(done)
    assert recorded(apns, sent.values()) == set(done.values())


def test_after_goaway_lower_streams_come_to_their_end_and_the_connection_closes(apns, client):
    apns.tell("faults", {"slow_drip": 1.0, "only_first": 1})
    slow, _ = push(client, "dead" + token())
    client.flush()
    client.until(lambda: slow in client.half)
    apns.tell("faults", {"slow_drip": 0.0, "goaway_after": 1, "only_first": 1})
    quick, _ = push(client)
    client.flush()
    client.until(lambda: client.goaway)
    assert client.goaway[0] == quick
    # h2 ends the whole connection at a GOAWAY; the raw bytes still tell that the slow answer ends.
    client.socket.settimeout(60)
    while client.socket.recv(1 << 16):
        pass
    assert apns.tell("stats")["counts"]["Unregistered"] >= 1


def test_goaway_of_a_delayed_batch_leaves_out_what_it_did_not_reach(apns, client):
    apns.tell("faults", {"goaway_after": 3, "delay_ms": 100})
    sent = dict(push(client) for _ in range(10))
    client.flush()
    client.until(lambda: client.goaway)
    done = [push_id for stream, push_id in sent.items() if stream <= client.goaway[0]]
    assert len(done) == 3
    time.sleep(0.2)
    assert recorded(apns, sent.values()) == set(done)


@pytest.mark.parametrize(
    ("fault", "code"), [("refuse_stream", REFUSED_STREAM), ("reset", INTERNAL_ERROR)]
)
def test_refused_and_reset_streams_were_never_done(apns, client, fault, code):
    apns.tell("faults", {fault: 0.25})
    sent = dict(push(client) for _ in range(8))
    client.flush()
    client.until(lambda: len(client.answers) + len(client.resets) == 8)
    assert set(client.resets.values()) == {code}
    assert len(client.resets) == 2
    assert recorded(apns, sent.values()) == {sent[stream] for stream in client.answers}


def test_silence_is_silence_and_the_connection_lives_on(apns, client):
    apns.tell("faults", {"no_answer": 1.0, "only_first": 1})
    lost, lost_id = push(client)
    push(client)
    client.flush()
    client.until(lambda: client.answers)
    client.read(0.2)
    assert lost not in client.answers
    assert client.resets == {}
    assert recorded(apns, [lost_id]) == set()


def test_what_the_client_takes_back_during_a_delay_is_not_done(apns, client):
    apns.tell("faults", {"delay_ms": 150})
    (kept, kept_id), (gone, gone_id) = push(client), push(client)
    client.h2.reset_stream(gone, 8)
    client.flush()
    client.until(lambda: kept in client.answers)
    assert recorded(apns, [kept_id, gone_id]) == {kept_id}


def test_the_number_of_streams_changes_in_mid_connection_and_then_binds(apns, client):
    assert client.limits == [1000]
    apns.tell("faults", {"max_streams": 2, "delay_ms": 100})
    client.until(lambda: client.limits == [1000, 2])
    client.read(0.05)
    client.h2.remote_settings[3] = 100  # a client that does not listen
    client.h2.remote_settings.acknowledge()
    for _ in range(5):
        push(client)
    client.flush()
    client.until(lambda: len(client.answers) + len(client.resets) == 5)
    assert (len(client.answers), list(client.resets.values())) == (2, [REFUSED_STREAM] * 3)


def test_one_stream_until_the_first_good_token(apns):
    apns.tell("options", {"first_stream_alone": True})
    client = Client(apns.ca_file, apns.port("APNS_PRODUCTION"))
    client.until(lambda: client.limits == [1])
    refused = client.ask(
        "/3/device/" + token(), [("apns-topic", "x"), ("authorization", "bearer wrong")]
    )
    client.flush()
    client.until(lambda: refused in client.answers)
    assert (client.answers[refused][0], client.limits) == (403, [1])
    push(client)
    client.flush()
    client.until(lambda: client.limits == [1, 1000])
    client.close()


def test_a_huge_answer_waits_for_the_windows(apns):
    apns.tell("faults", {"huge": 1.0, "only_first": 1})
    client = Client(apns.ca_file, apns.port("APNS_SANDBOX"), window=1000)
    client.until(lambda: client.limits)
    client.acknowledging = False
    huge, _ = push(client)
    client.flush()
    client.until(lambda: len(client.half.get(huge, ("", "", b""))[2]) == 1000)
    other, _ = push(client)  # a small answer passes by
    client.flush()
    client.until(lambda: other in client.answers)
    assert huge not in client.answers
    client.acknowledging = True
    client.h2.increment_flow_control_window(1 << 21)
    client.h2.increment_flow_control_window(1 << 21, huge)
    client.flush()
    client.until(lambda: huge in client.answers)
    assert len(client.answers[huge][2]) == 1 << 20
    client.close()


def test_more_than_a_windows_worth_of_bodies_is_taken_and_acknowledged(apns, client):
    big = b'{"aps":{"alert":{"body":"' + b"x" * 4000 + b'"}}}'
    for _ in range(5):  # 5 x 20 x 4 KB: six times the first window
        before = len(client.answers)
        for _ in range(20):
            if client.h2.outbound_flow_control_window < len(big):
                break
            push(client, body=big)
        client.flush()
        client.until(
            lambda before=before: len(client.answers) > before and len(client.answers) % 20 == 0
        )
    assert {answer[0] for answer in client.answers.values()} == {200}
    assert len(client.answers) == 100


def test_a_slow_answer_comes_byte_by_byte_and_whole(apns, client):
    apns.tell("faults", {"slow_drip": 1.0})
    stream, _ = push(client, "badd" + token())
    client.flush()
    client.until(lambda: stream in client.answers)
    status, _, body = client.answers[stream]
    assert (status, body) == (400, b'{"reason":"BadDeviceToken"}')
    assert [size for one, size in client.pieces if one == stream] == [1] * 27


SPOILT = {
    "empty": ({"empty": 1.0}, "dead", (410, b"")),
    "status": ({"status": 502, "status_share": 1.0, "status_body": "<html>"}, "", (502, b"<html>")),
}


@pytest.mark.parametrize(("faults", "prefix", "wanted"), SPOILT.values(), ids=SPOILT)
def test_answers_that_no_page_describes(apns, client, faults, prefix, wanted):
    apns.tell("faults", faults)
    stream, _ = push(client, prefix + token())
    client.flush()
    client.until(lambda: stream in client.answers)
    assert (client.answers[stream][0], client.answers[stream][2]) == wanted


def test_a_status_carries_retry_after_and_leaves_nothing_done(apns, client):
    apns.tell("faults", {"status": 503, "status_share": 1.0, "retry_after_s": 9})
    stream, push_id = push(client)
    client.flush()
    client.until(lambda: stream in client.answers)
    assert client.answers[stream][:2] == (503, {"retry-after": "9"})
    assert recorded(apns, [push_id]) == set()


def test_garbage_was_done_all_the_same(apns, client):
    apns.tell("faults", {"garbage": 1.0})
    stream, push_id = push(client)
    client.flush()
    client.until(lambda: stream in client.answers)
    assert client.answers[stream][2].startswith(b"<html>")
    assert recorded(apns, [push_id]) == {push_id}


def test_a_header_sent_twice_is_seen(client):
    stream, _ = push(client, headers=[("apns-priority", "5"), ("apns-priority", "10")])
    client.flush()
    client.until(lambda: stream in client.answers)
    assert json.loads(client.answers[stream][2])["reason"] == "DuplicateHeaders"


def test_a_malformed_request_ends_its_stream_and_no_other(client):
    client.h2.config.validate_outbound_headers = client.h2.config.normalize_outbound_headers = False
    wrong = client.ask("/3/device/aa", [("Apns-Topic", "x")])
    right, _ = push(client)
    client.flush()
    client.until(lambda: right in client.answers and wrong in client.resets)
    assert client.resets == {wrong: PROTOCOL_ERROR}


def test_ping_is_answered_and_the_clients_goaway_lets_its_streams_end(apns, client):
    apns.tell("faults", {"delay_ms": 100})
    stream, push_id = push(client)
    client.h2.ping(b"12345678")
    client.socket.sendall(
        client.h2.data_to_send() + bytes.fromhex("0000080700000000000000000000000000")
    )
    client.until(lambda: stream in client.answers)
    assert recorded(apns, [push_id]) == {push_id}


def test_down_refuses_connections_and_ends_those_there_are_but_the_side_door_opens_again(
    apns, client
):
    stream, _ = push(client)
    client.flush()
    client.until(lambda: stream in client.answers)
    apns.tell("faults", {"down": True})
    while client.read(2):
        pass
    for endpoint in ("APNS_PRODUCTION", "APNS_SANDBOX"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", apns.port(endpoint)), 2)
    apns.tell("faults", {"down": False})
    again = Client(apns.ca_file, apns.port("APNS_SANDBOX"))
    stream, _ = push(again)
    again.flush()
    again.until(lambda: stream in again.answers)
    again.close()


def test_an_apns_call_over_http1_is_told_to_speak_http2(apns):
    context = ssl.create_default_context(cafile=apns.ca_file)
    address = ("127.0.0.1", apns.port("APNS_SANDBOX"))
    raw = context.wrap_socket(socket.create_connection(address), server_hostname="localhost")
    raw.sendall(b"POST /3/device/aa HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
    assert raw.recv(100).startswith(b"HTTP/1.1 505 ")
    raw.close()
