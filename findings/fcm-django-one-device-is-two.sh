#!/bin/bash
# Guess: with ONE_DEVICE_PER_USER fcm-django has one active device for a person, the one that registered last: "true if you want to have only one active
#   device per registered user at a time".
# Behaviour: so it is for a token that fcm-django sees for the first time. A token that it knows (each start of an app sends it again, and
#   UPDATE_ON_DUPLICATE_REG_ID, on by default, takes that for an update) becomes active as well, but the other devices go off only if the request says
#   "active": true, which it need not: left out it counts as true for the device and as false for the others. Whoever goes back to their old phone has
#   two that ring from then on, also after they return to the new one: every message shows on the phone in the drawer.
# Versions: fcm-django 3.2.0, firebase-admin 7.7.0, djangorestframework 3.16.1, Django 5.2.8, Python 3.11. Date: 2026-12-01.
# Seen: "old registers: old; new registers: new; old starts again: new old; new starts again: new old; old again, with active: old"
# Exits 1 when there is one active device each time. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q fcm-django==3.2.0 firebase-admin==7.7.0 djangorestframework==3.16.1 Django==5.2.8 2>/dev/null
cat > register.py <<'PY'
import sys, warnings

import django
from django.conf import settings
from django.core.management import call_command

warnings.simplefilter("ignore")
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "fcm_django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    FCM_DJANGO_SETTINGS={"ONE_DEVICE_PER_USER": True},
)
django.setup()
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from fcm_django.api.rest_framework import FCMDeviceAuthorizedViewSet
from fcm_django.models import FCMDevice
from rest_framework.test import APIRequestFactory, force_authenticate

anna = User.objects.create(username="anna")
devices = FCMDeviceAuthorizedViewSet.as_view({"post": "create"})


def register(token, **more):
    """The active devices after Anna's app posted its token, as at each start."""
    request = APIRequestFactory().post("/devices", {"registration_id": token, "type": "android"} | more, format="json")
    force_authenticate(request, anna)
    assert devices(request).status_code in (200, 201)
    return " ".join(sorted(FCMDevice.objects.filter(active=True).values_list("registration_id", flat=True)))


seen = [register("old"), register("new"), register("old"), register("new"), register("old", active=True)]
said = ["old registers", "new registers", "old starts again", "new starts again", "old again, with active"]
print("; ".join(f"{what}: {active}" for what, active in zip(said, seen)))
sys.exit(0 if seen[:3] == ["old", "new", "new old"] else 1)
PY
venv/bin/python register.py
