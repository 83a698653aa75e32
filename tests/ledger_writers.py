"""The ledger's writer as upkeep starts it."""

from common.storage.leases import JointLease
from workers.maintenance.ledger_writer import LedgerWriter
from workers.runtime import Runtime


def begin_upkeep(runtime: Runtime) -> None:
    """A writer of this release has had all shards' leases: records may come in columns."""
    lease = JointLease(runtime.redis, [one.keys for one in runtime.shards], "ledger")
    assert lease.hold()
    LedgerWriter(runtime, shards=runtime.shards).begin(lease)
    lease.give_back()
