"""What handlers may use."""

from aiohttp import web

from session_service.core.cleanup import Cleanup
from session_service.core.sessions import Sessions

SESSIONS = web.AppKey("SESSIONS", Sessions)
CLEANUP = web.AppKey("CLEANUP", Cleanup)
