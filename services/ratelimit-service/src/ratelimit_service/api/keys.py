"""What handlers may use: one key per use case."""

from aiohttp import web

from ratelimit_service.core.checks import Checks
from ratelimit_service.core.reports import Reports
from ratelimit_service.core.rules import Lists, Overrides, Plans, Policies
from ratelimit_service.core.usage import Usage

CHECKS = web.AppKey("CHECKS", Checks)
POLICIES = web.AppKey("POLICIES", Policies)
OVERRIDES = web.AppKey("OVERRIDES", Overrides)
PLANS = web.AppKey("PLANS", Plans)
LISTS = web.AppKey("LISTS", Lists)
REPORTS = web.AppKey("REPORTS", Reports)
USAGE = web.AppKey("USAGE", Usage)
