"""Mainstay for app developers.

`mainstay.handler` to write job handlers, `mainstay.testing` to try them without a server,
`mainstay.client` to talk to a deployment, `mainstay.worker` to run the jobs of a queue that is
pulled.
"""
