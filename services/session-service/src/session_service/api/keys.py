"""What handlers may use."""

from aiohttp import web

from session_service.core.audit import HistoryStore
from session_service.core.cleanup import Cleanup
from session_service.core.rekeying import Rekeying
from session_service.core.sessions import Sessions
from session_service.core.uninstall import Installations

SESSIONS = web.AppKey("SESSIONS", Sessions)
INSTALLATIONS = web.AppKey("INSTALLATIONS", Installations)
CLEANUP = web.AppKey("CLEANUP", Cleanup)
HISTORY = web.AppKey("HISTORY", HistoryStore)
REKEYING = web.AppKey("REKEYING", Rekeying)
