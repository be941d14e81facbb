"""Operators in front of everything real; one run of it is shared by all that is looked at here."""
