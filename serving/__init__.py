"""The service: HTTP interface for programs and pages for marketers, run by BentoML.

Imports inside this package are relative, because a wheel carries it as `predictive_scoring._serving`.
"""
