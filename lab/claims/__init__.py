"""The claims ledger: what the report says, held against stored cells."""

from lab.claims.decidable import undecidable
from lab.claims.ledger import StoredCell, ledger
from lab.claims.stored import latest

__all__ = ["StoredCell", "latest", "ledger", "undecidable"]
