"""Doors: HTTP or XMPP of IM servers and clouds -> events on the core's stream. Translators only
(docs/doors).
"""
