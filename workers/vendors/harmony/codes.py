"""HarmonyOS's codes: what each means for a token. Source: docs/vendors/harmony.md, codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common.model import Kind
from workers.vendors import huawei_codes
from workers.vendors.types import Outcome, RequestBatch
from workers.wire import HttpResponse, NoAnswer

#: Only of the revoke call, where they speak of the tokens' app: one token may be foreign, several
#: mean a wrong client id.
REVOKE_CODE: Final = "80300028"


def classify(batch: RequestBatch, answer: HttpResponse | NoAnswer) -> Sequence[Outcome]:
    if batch.items[0].note.kind is not Kind.RECALL:
        return huawei_codes.classified(batch, answer)
    meaning = huawei_codes.NO_RIGHT_ALONE if len(batch.items) == 1 else huawei_codes.CREDENTIAL
    return huawei_codes.classified(batch, answer, {REVOKE_CODE: meaning})
