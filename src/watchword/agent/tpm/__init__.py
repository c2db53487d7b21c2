"""The commands the agent sends to its host's TPM, in pure Python: a transport, sessions and one client."""
