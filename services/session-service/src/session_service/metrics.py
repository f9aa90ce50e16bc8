"""Every metric of session-service."""

from prometheus_client import Counter

READS = Counter("session_reads_total", "Sessions and tokens read, by what answered", ["backend"])
CLEANUP_DELETED = Counter(
    "session_cleanup_deleted_total", "Sessions removed after the last of their tokens had ended"
)
