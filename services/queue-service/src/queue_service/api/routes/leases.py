"""Jobs that are pulled."""

from chassis.web.app import Operation
from contracts import leases as lease_wire
from queue_service.api import leases

QUEUE = "/v1/queues/{name:[^/:]+}"

OPERATIONS = (
    Operation(
        method="POST",
        path=f"{QUEUE}:lease",
        handler=leases.lease_jobs,
        summary="Lease jobs of a queue that is pulled, waiting for some if asked to",
        scope="jobs:write",
        request=lease_wire.LeaseAsk,
        response=lease_wire.LeasedJobs,
        timeout_s=0,
        tag="leases",
    ),
    Operation(
        method="POST",
        path="/v1/leases:settle",
        handler=leases.settle_leases,
        summary="Say how leased jobs ended, each by itself; lease the next ones if asked to",
        scope="jobs:write",
        request=lease_wire.LeasesSettle,
        response=lease_wire.LeasesSettled,
        timeout_s=0,
        tag="leases",
    ),
    Operation(
        method="POST",
        path="/v1/leases:release",
        handler=leases.release_leases,
        summary="Give back jobs that were not started, their attempt unspent",
        scope="jobs:write",
        request=lease_wire.LeasesRelease,
        response=lease_wire.LeasesSettled,
        tag="leases",
    ),
    Operation(
        method="POST",
        path="/v1/leases:heartbeat",
        handler=leases.beat_leases,
        summary="Keep leases, leave progress, hear which are lost and which to stop",
        scope="jobs:write",
        request=lease_wire.LeasesHeartbeat,
        response=lease_wire.LeasesBeaten,
        tag="leases",
    ),
    Operation(
        method="POST",
        path="/v1/leases:mark",
        handler=leases.mark_lease,
        summary="Leave a durable mark before an outside effect; 409 lease_lost without a lease",
        scope="jobs:write",
        request=lease_wire.LeaseMark,
        response=lease_wire.LeaseMarked,
        tag="leases",
    ),
)
