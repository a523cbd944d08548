BEGIN TRANSACTION;
CREATE TABLE downloads (
            id TEXT PRIMARY KEY,
            hub_id TEXT NOT NULL,
            name TEXT NOT NULL,
            status TEXT NOT NULL,
            total_bytes INTEGER NOT NULL,
            done_bytes INTEGER NOT NULL,
            error TEXT,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            auto_load INTEGER NOT NULL
        );
INSERT INTO "downloads" VALUES('download-1','owner/model','m','completed',9,9,NULL,'2026-01-01T12:00:00.000000+00:00','2026-01-01T12:00:00.000000+00:00',1);
CREATE TABLE models (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            path TEXT,
            hub_id TEXT,
            type TEXT NOT NULL,
            version TEXT,
            quantisation TEXT,
            weight_bytes INTEGER NOT NULL,
            memory_bytes INTEGER,
            parameters INTEGER,
            context_length INTEGER,
            architecture TEXT,
            status TEXT NOT NULL,
            use_count INTEGER NOT NULL,
            last_used_at TEXT,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            error_message TEXT,
            metadata TEXT NOT NULL
        );
INSERT INTO "models" VALUES(1,'owner/model','/models/owner/model','owner/model','vision',NULL,'4-bit',123,NULL,NULL,4096,'qwen3_vl','failed',0,NULL,'2026-01-01T12:00:00.000000+00:00','2026-01-01T12:00:00.000000+00:00','it''s broken','{"a":[1]}');
INSERT INTO "models" VALUES(2,'other',NULL,NULL,'language',NULL,NULL,0,NULL,NULL,NULL,NULL,'unloaded',7,'2026-01-01T12:00:00.000000+00:00','2026-01-01T12:00:00.000000+00:00','2026-01-01T12:00:00.000000+00:00',NULL,'{}');
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "settings" VALUES('server_port','9000');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('models',2);
COMMIT;
PRAGMA user_version = 1;
