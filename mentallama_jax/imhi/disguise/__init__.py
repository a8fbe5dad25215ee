"""Identifiers of people in posts replaced by keyed pseudonyms: patterns, pseudonyms, records, and what is left."""
