"""The engines, one module or package each: they never import one another, and vendor SDKs are imported only here."""
