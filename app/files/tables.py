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
    (
        """
        CREATE TABLE batches (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            anthropic INTEGER NOT NULL,
            endpoint TEXT NOT NULL,
            input_file TEXT NOT NULL,
            window TEXT NOT NULL,
            metadata BLOB NOT NULL,
            output_lifetime INTEGER,
            status TEXT NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            in_progress INTEGER,
            finalizing INTEGER,
            completed INTEGER,
            failed INTEGER,
            expired INTEGER,
            cancelling INTEGER,
            cancelled INTEGER,
            model TEXT,
            errors BLOB NOT NULL,
            total INTEGER NOT NULL,
            done INTEGER NOT NULL,
            wrong INTEGER NOT NULL,
            output_bytes INTEGER NOT NULL,
            error_bytes INTEGER NOT NULL,
            output_file TEXT,
            error_file TEXT,
            input_tokens INTEGER NOT NULL,
            cached_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            reasoning_tokens INTEGER NOT NULL
        )
        """,
        "CREATE INDEX batches_by_owner ON batches (owner, anthropic, number)",
        "CREATE INDEX batches_by_status ON batches (status, created)",
        """
        CREATE TABLE batch_lines (
            batch INTEGER NOT NULL REFERENCES batches (number) ON DELETE CASCADE,
            line INTEGER NOT NULL,
            at INTEGER NOT NULL,
            size INTEGER NOT NULL,
            custom_id TEXT NOT NULL,
            model TEXT,
            beginning BLOB NOT NULL,
            done INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (batch, line),
            UNIQUE (batch, custom_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX batch_lines_to_do ON batch_lines (batch, beginning, size DESC, line) WHERE done = 0",
    ),
    ("ALTER TABLE batches ADD COLUMN unknown BLOB NOT NULL DEFAULT x'5b5d'",),
    (
        "DROP INDEX batch_lines_to_do",
        """
        CREATE INDEX batch_lines_to_do ON batch_lines (batch, model, beginning, size DESC, line) WHERE done = 0
        """,
    ),
)
