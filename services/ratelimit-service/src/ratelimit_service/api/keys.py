"""What handlers may use: one key per use case."""

from aiohttp import web

from ratelimit_service.core.checks import Checks
from ratelimit_service.core.policies import Policies

CHECKS = web.AppKey("CHECKS", Checks)
POLICIES = web.AppKey("POLICIES", Policies)
