"""Names of queues and tasks, and the settings that keep a wake-up a wake-up."""

import pytest

from common.model import Vendor
from tests.conftest import data_settings
from workers.app import make_app, queue_of, queues, task_of

QUEUES = {
    ("presence", None): "presence",
    ("routing", None): "routing",
    ("delivery", "apns"): "delivery.apns",
}


@pytest.mark.parametrize(("stage", "name"), QUEUES.items())
def test_each_stage_has_its_queue(stage, name):
    assert queue_of(*stage) == name


@pytest.mark.parametrize(
    ("stage", "vendor"),
    [("intake", None), ("delivery", None), ("delivery", "nokia"), ("presence", "apns")],
)
def test_what_has_no_queue_is_refused(stage, vendor):
    with pytest.raises(ValueError, match=r"no such queue|is not a valid Vendor"):
        queue_of(stage, vendor)


def test_every_vendor_has_a_queue():
    assert len(queues()) == len(set(queues())) == 2 + len(Vendor)


@pytest.fixture
def app(tmp_path):
    return make_app(data_settings(tmp_path, REDIS_URL="redis://:p@h:1/2", PREFIX="fleet2"))


@pytest.mark.parametrize(
    ("name", "args", "queue"),
    [("presence", (), "presence"), ("delivery", ("vivo",), "delivery.vivo")],
)
def test_wake_ups_are_routed_by_their_name(app, name, args, queue):
    assert app.amqp.router.route({}, task_of(name), args, {})["queue"].name == queue


def test_nothing_is_pickled_kept_or_acknowledged_late(app):
    conf = app.conf
    assert (
        conf.accept_content,
        conf.task_serializer,
        conf.result_backend,
        conf.task_ignore_result,
    ) == (["json"], "json", None, True)
    assert (
        conf.task_acks_late,
        conf.worker_prefetch_multiplier,
        conf.worker_enable_remote_control,
    ) == (False, 1, False)
    assert conf.broker_transport_options["global_keyprefix"] == "fleet2:celery:"
    assert conf.broker_connection_max_retries is None


def test_two_apps_do_not_share_settings(tmp_path, app):
    other = make_app(data_settings(tmp_path, REDIS_URL="redis://h", PREFIX="fleet3"))
    assert other.conf.broker_transport_options["global_keyprefix"] == "fleet3:celery:"
    assert app.conf.broker_transport_options["global_keyprefix"] == "fleet2:celery:"
