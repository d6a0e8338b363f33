"""Connectors: tables from a CRM, scores back into it, webhooks out and in.

`http` is the only way out. Clock, sleep and chance are given by the door (the command line), credentials too.
"""
