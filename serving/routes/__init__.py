"""The HTTP interface for programs: a module for each thing that can be asked. `serving.api` puts them together."""
