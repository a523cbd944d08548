"""The tables of files, uploads and batches, from version to version. Times are seconds since the epoch."""

from __future__ import annotations

MIGRATIONS = (
    (
        """
        CREATE TABLE files (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            purpose TEXT NOT NULL,
            name TEXT NOT NULL,
            size INTEGER NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER
        )
        """,
        "CREATE INDEX files_by_owner ON files (owner, number)",
        "CREATE INDEX files_by_end ON files (expires) WHERE expires IS NOT NULL",
        """
        CREATE TABLE uploads (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            purpose TEXT NOT NULL,
            name TEXT NOT NULL,
            size INTEGER NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            lifetime INTEGER,
            status TEXT NOT NULL,
            file TEXT
        )
        """,
        "CREATE INDEX uploads_by_owner ON uploads (owner) WHERE status = 'pending'",
        """
        CREATE TABLE upload_parts (
            id TEXT PRIMARY KEY,
            upload TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
            size INTEGER NOT NULL,
            created INTEGER NOT NULL
        )
        """,
        "CREATE INDEX upload_parts_by_upload ON upload_parts (upload)",
    ),
)
