"""Wiring of the worker process: everything is built here, top to bottom, and closed in reverse."""

import logging
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from chassis import http_client, lifecycle, logs, postgres
from chassis.crypto import Minter
from chassis.kernel.clock import SystemClock
from chassis.leader import Leader
from chassis.web import health
from chassis.web.app import base_app
from mainstay import handler
from queue_service import metrics
from queue_service.clients.ratelimits import RateLimits
from queue_service.core.attempts import Claimed
from queue_service.core.execute import IsMine, JobContext
from queue_service.core.leasing import WorkerQueue
from queue_service.loops.attempts import Attempts
from queue_service.loops.chores import Chores
from queue_service.loops.heartbeat import Heartbeat
from queue_service.loops.producer import Producer
from queue_service.loops.roster import Roster
from queue_service.loops.settler import Settler
from queue_service.loops.stager import Stager
from queue_service.settings import WorkerSettings
from queue_service.store.engine import SETTINGS, EngineStore
from queue_service.store.pulse import PostgresPulse
