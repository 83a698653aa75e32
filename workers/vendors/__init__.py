"""The vendors the fleet knows, one row each. A new vendor is a file beside this
one and a row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common.model import Vendor
from workers.vendors.apns import APNS
from workers.vendors.fcm import FCM
from workers.vendors.harmony import HARMONY
from workers.vendors.honor import HONOR
from workers.vendors.huawei import HUAWEI
from workers.vendors.meizu import MEIZU
from workers.vendors.oppo import OPPO
from workers.vendors.types import VendorSpec
from workers.vendors.vivo import VIVO
from workers.vendors.xiaomi import XIAOMI

VENDORS: Final[Mapping[Vendor, VendorSpec]] = {
    spec.vendor: spec for spec in (APNS, FCM, HUAWEI, HARMONY, HONOR, XIAOMI, OPPO, VIVO, MEIZU)
}
