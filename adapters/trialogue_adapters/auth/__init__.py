"""Who may come in, and as whom: credentials in, a principal out; and which pages' origins are let in at all.

Knows neither sockets nor servers nor the engine. What is refused is `Denied`; nothing here logs a credential.
"""

from trialogue_adapters.auth.gate import Gate, Lease
from trialogue_adapters.auth.origins import Origins
from trialogue_adapters.auth.port import Authenticator, Caller, Denied, Grant, Misconfigured
from trialogue_adapters.auth.ws_tokens import WsTokens

__all__ = ["Authenticator", "Caller", "Denied", "Gate", "Grant", "Lease", "Misconfigured", "Origins", "WsTokens"]
