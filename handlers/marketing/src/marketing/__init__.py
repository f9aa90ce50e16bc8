"""Handlers an SMS marketing app needs: messages, campaigns and automations."""
