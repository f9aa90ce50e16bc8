"""What handlers may use: one key per use case."""

from aiohttp import web

from ratelimit_service.core.checks import Checks
from ratelimit_service.core.policies import Policies
from ratelimit_service.core.reports import Reports
from ratelimit_service.core.usage import Usage

CHECKS = web.AppKey("CHECKS", Checks)
POLICIES = web.AppKey("POLICIES", Policies)
REPORTS = web.AppKey("REPORTS", Reports)
USAGE = web.AppKey("USAGE", Usage)
