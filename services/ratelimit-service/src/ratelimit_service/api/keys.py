"""What handlers may use: one key per use case."""

from aiohttp import web

from ratelimit_service.core.adjustments import Adjustments
from ratelimit_service.core.checks import Checks
from ratelimit_service.core.leases import Leases
from ratelimit_service.core.observing import Observing
from ratelimit_service.core.permits import Permits
from ratelimit_service.core.redaction import Redaction
from ratelimit_service.core.refunds import Refunds
from ratelimit_service.core.reports import Reports
from ratelimit_service.core.rules import Lists, Overrides, Plans, Policies
from ratelimit_service.core.usage import Usage

CHECKS = web.AppKey("CHECKS", Checks)
REFUNDS = web.AppKey("REFUNDS", Refunds)
ADJUSTMENTS = web.AppKey("ADJUSTMENTS", Adjustments)
OBSERVING = web.AppKey("OBSERVING", Observing)
LEASES = web.AppKey("LEASES", Leases)
PERMITS = web.AppKey("PERMITS", Permits)
POLICIES = web.AppKey("POLICIES", Policies)
OVERRIDES = web.AppKey("OVERRIDES", Overrides)
PLANS = web.AppKey("PLANS", Plans)
LISTS = web.AppKey("LISTS", Lists)
REPORTS = web.AppKey("REPORTS", Reports)
REDACTION = web.AppKey("REDACTION", Redaction)
USAGE = web.AppKey("USAGE", Usage)
