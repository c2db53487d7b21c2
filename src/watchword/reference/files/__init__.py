"""What a release may run, computed from its packages, directories, archives and images before any host runs them."""

from watchword.reference.files.agent import agent_sources
from watchword.reference.files.collect import Options, Progress, RuntimeReferences, collect
from watchword.reference.files.signature import load_signers
from watchword.reference.files.source import Source
from watchword.reference.files.table import files_from_table, read_runtime

__all__ = [
    "Options",
    "Progress",
    "RuntimeReferences",
    "Source",
    "agent_sources",
    "collect",
    "files_from_table",
    "load_signers",
    "read_runtime",
]
