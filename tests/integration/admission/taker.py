"""One of many processes that take from a lane and give back; writes what it did to a file, a line
before and a line after each call.
"""

import random
import sys
import time
from pathlib import Path

from common.model import Bucket, MessageClass
from common.storage.admission import Admission, AdmissionAnswer, AdmissionRequest, LaneLimits
from common.storage.keys import Keys
from common.storage.redis import connect

TAKERS, BATCH = 8, 50
#: After its last refund a taker still asks for so many batches, so that what was given back is
#: taken again.
CALM = 20


def main(url: str, prefix: str, number: int, tries: int, quota: int, log: Path) -> None:
    redis = connect(url)
    store = Admission(redis, Keys(prefix))
    terms = LaneLimits("a:vivo:shared", rate_per_s=1e6, burst=1e6, quotas={Bucket.PUBLIC: quota})
    chance = random.Random(number)
    redis.incr(f"{prefix}:ready")
    # all begin together, so that none finds the quota gone
    while int(redis.get(f"{prefix}:ready") or 0) < TAKERS:
        time.sleep(0.005)
    batches = tries // BATCH
    with log.open("a", buffering=1) as file:
        for batch in range(batches):
            asks = [
                AdmissionRequest(
                    f"{number:08x}{batch * BATCH + i:024x}", Bucket.PUBLIC, MessageClass.NEWS, "t"
                )
                for i in range(BATCH)
            ]
            file.write(f"ask {len(asks)}\n")
            given = store.admit(terms, asks, str(number))
            assert given is not None
            pairs = zip(asks, given, strict=True)
            got = [ask for ask, one in pairs if one.answer == AdmissionAnswer.GRANTED]
            file.write(f"got {len(got)}\n")
            if batch < batches - CALM and got:
                back = [ask for ask in got if chance.random() < 0.1]
                file.write(f"giving {len(back)}\n")
                file.write(f"gave {store.refund(terms, back, str(number))}\n")


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
        Path(sys.argv[6]),
    )
