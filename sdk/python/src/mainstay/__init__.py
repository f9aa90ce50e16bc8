"""Mainstay for app developers.

`mainstay.handler` to write job handlers, `mainstay.testing` to try them without a server,
`mainstay.client` to talk to a deployment.
"""
