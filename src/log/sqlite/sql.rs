//! The tables and all statements on them; [`outbox`](super::outbox) and [`plans`](super::plans) have their own. No
//! other file of this module contains SQL.
//!
//! Large values are in tables of their own (`documents`, `states`, `pieces`), so that rows that change often are small:
//! SQLite rewrites a row as a whole. Indexes that only some rows need are partial.

/// Of the tables as they are here. A file with a larger one was written by a later program.
pub(super) const SCHEMA_VERSION: i64 = 5;

/// Marks the file as ours: "step" in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x7374_6570;

/// Makes the tables, but for those of the [`HISTORY_SCHEMA`] of the [outbox](super::outbox) and of [plans](super::plans). Of all:
///
/// - `projects`: `floor` is the `seq` from which on the history is whole, `floor_at` when the first message of its first
///   segment was kept; null where there is none. `newest` never goes back, whatever becomes of the messages. `emptied_at`
///   is since when it has held neither a message nor a run, null where it holds something; `message_bytes` is what
///   its segments weigh, `run_bytes` what goes with its runs, `key_bytes` what its keys do; `newest_at` when its newest
///   message was kept, `newest_run` the largest number that a run of it ever had.
/// - `segments`: messages, as [`segment`](crate::log::segment) has it. `id` is the project's times 2^40, and the `seq` of
///   the first: one number, because SQLite finds rows by that at half the price of two. The messages are what a
///   [`Packer`](super::packed::Packer) makes of them; what stands before them is read without them.
/// - `outlasting`: of runs that go on the messages below the floor that outlast it, once their segment was let go.
///   `place` as [`place_code`](super::packed::place_code).
/// - `runs`: `since` is its project's newest `seq` before the run. `bytes` is what its document, answer, state and outer
///   messages weigh. `status` as [`status_code`](super::read::status_code).
/// - `documents`: the plan and the answer of a run, packed.
/// - `states`: of runs that have ended, packed. `summary` stands before the rest, so that it is read without that: the
///   state, and the run's first message and last.
/// - `outputs`: the newest attempt of a step; one without a run was let go, and its pieces go little by little.
/// - `pieces`: `stream` as [`stream_code`](super::read::stream_code).
/// - `keys`: what calls were answered that may come again; `bytes` is what a row weighs.
///
/// `meta` has, besides what names the directory, where the clock stood that history ages by, where no message says so, and
/// the largest number of a run, where no project does. All times are of that clock but `last_activity`, `created_at` and
/// what stands in `tickets`.
pub(super) const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE projects (
        id INTEGER PRIMARY KEY,
        newest INTEGER NOT NULL,
        floor INTEGER NOT NULL,
        floor_at INTEGER,
        last_activity INTEGER NOT NULL,
        ended_runs INTEGER NOT NULL,
        name TEXT NOT NULL UNIQUE,
        emptied_at INTEGER,
        key_bytes INTEGER NOT NULL DEFAULT 0,
        message_bytes INTEGER NOT NULL DEFAULT 0,
        run_bytes INTEGER NOT NULL DEFAULT 0,
        newest_at INTEGER NOT NULL DEFAULT 0,
        newest_run INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX projects_emptied ON projects (emptied_at) WHERE emptied_at IS NOT NULL;
    CREATE INDEX projects_by_age ON projects (floor_at) WHERE floor_at IS NOT NULL;
    CREATE TABLE outputs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER,
        step TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX outputs_of_run ON outputs (run, step) WHERE run IS NOT NULL;
    CREATE INDEX outputs_let_go ON outputs (id) WHERE run IS NULL;
    CREATE TABLE pieces (
        id INTEGER PRIMARY KEY,
        output INTEGER NOT NULL,
        stream INTEGER NOT NULL,
        bytes BLOB NOT NULL
    );
    CREATE INDEX pieces_of_output ON pieces (output, stream);
    CREATE TABLE tickets (id INTEGER PRIMARY KEY, until INTEGER NOT NULL, note BLOB NOT NULL);
    CREATE INDEX tickets_by_end ON tickets (until);
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        project INTEGER NOT NULL,
        name TEXT NOT NULL,
        at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        answer BLOB NOT NULL
    );
    CREATE UNIQUE INDEX keys_by_name ON keys (project, name);
    CREATE INDEX keys_by_age ON keys (at);
";

/// Makes those of the tables that messages and runs are in.
pub(super) const HISTORY_SCHEMA: &str = "
    CREATE TABLE segments (
        id INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        messages BLOB NOT NULL
    );
    CREATE TABLE outlasting (
        run INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        at INTEGER NOT NULL,
        place INTEGER NOT NULL,
        json BLOB NOT NULL,
        PRIMARY KEY (run, seq)
    ) WITHOUT ROWID;
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        project INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        since INTEGER NOT NULL,
        ended_at INTEGER,
        first_seq INTEGER,
        last_seq INTEGER,
        status INTEGER,
        cancelled INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        fingerprint BLOB NOT NULL
    );
    CREATE UNIQUE INDEX runs_by_id ON runs (run_id, project);
    CREATE INDEX runs_of_project ON runs (project, status);
    CREATE INDEX runs_by_end ON runs (ended_at) WHERE ended_at IS NOT NULL;
    CREATE TABLE documents (run INTEGER PRIMARY KEY, packed BLOB NOT NULL);
    CREATE TABLE states (run INTEGER PRIMARY KEY, summary BLOB NOT NULL, packed BLOB NOT NULL);
";

/// Makes the table of the items of `forEach` steps. `row` as [`ItemState::to_row`](crate::model::ItemState::to_row) makes it;
/// what it weighs counts among its run's `bytes`. Items go after their run, little by little.
pub(super) const ITEMS_SCHEMA: &str = "
    CREATE TABLE items (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        step TEXT NOT NULL,
        item INTEGER NOT NULL,
        row BLOB NOT NULL
    );
    CREATE UNIQUE INDEX items_of_step ON items (run, step, item);
";

// The store as a whole.

/// Parameters: key, value.
pub(super) const PUT_META: &str = "INSERT INTO meta VALUES (?1, ?2)";
/// Large enough to need room that is not there by chance.
pub(super) const PROBE: &str = "INSERT OR REPLACE INTO meta VALUES ('probe', zeroblob(32768))";
pub(super) const META: &str = "SELECT value FROM meta WHERE key = ?1";
pub(super) const TABLES: &str = "SELECT count(*) FROM sqlite_master";
/// Row: bytes of messages, bytes of runs, bytes of keys.
pub(super) const TOTALS: &str = "
    SELECT coalesce(sum(message_bytes), 0), coalesce(sum(run_bytes), 0), coalesce(sum(key_bytes), 0) FROM projects";
pub(super) const CLOCK: &str = "
    SELECT max((SELECT coalesce(max(newest_at), 0) FROM projects),
        coalesce((SELECT value FROM meta WHERE key = 'clock'), 0))";
/// Parameter: where it stands.
pub(super) const KEEP_CLOCK: &str = "INSERT OR REPLACE INTO meta VALUES ('clock', ?1)";
/// The largest number that a run ever had.
pub(super) const NEWEST_RUN: &str = "
    SELECT max((SELECT coalesce(max(newest_run), 0) FROM projects),
        coalesce((SELECT value FROM meta WHERE key = 'newest_run'), 0))";
/// Parameter: that.
pub(super) const KEEP_NEWEST_RUN: &str = "INSERT OR REPLACE INTO meta VALUES ('newest_run', ?1)";
pub(super) const PAGES: &str = "PRAGMA page_count";
pub(super) const FREE_PAGES: &str = "PRAGMA freelist_count";

// Projects.

/// Parameter: name. Row: id, newest, holds no message, holds nothing.
pub(super) const PROJECT: &str =
    "SELECT id, newest, floor_at IS NULL, emptied_at IS NOT NULL FROM projects WHERE name = ?1";
/// Parameter: name.
pub(super) const NEW_PROJECT: &str =
    "INSERT INTO projects (newest, floor, last_activity, ended_runs, name) VALUES (0, 1, 0, 0, ?1)";
/// Parameters: id, newest, when or null where it is as before, more runs that have ended, more bytes of keys, of
/// messages, of runs, when the newest message was kept, the newest run.
pub(super) const PROJECT_GREW: &str = "
    UPDATE projects SET newest = max(newest, ?2), last_activity = coalesce(?3, last_activity),
        ended_runs = ended_runs + ?4, key_bytes = key_bytes + ?5, message_bytes = message_bytes + ?6,
        run_bytes = run_bytes + ?7, newest_at = max(newest_at, ?8), newest_run = max(newest_run, ?9)
    WHERE id = ?1";
/// Parameters: id, fewer runs that have ended, fewer bytes of messages, of runs.
pub(super) const PROJECT_SHRANK: &str = "
    UPDATE projects SET ended_runs = ended_runs - ?2, message_bytes = message_bytes - ?3, run_bytes = run_bytes - ?4
    WHERE id = ?1";
/// Parameter: id.
pub(super) const PROJECT_ACTIVE: &str = "UPDATE projects SET emptied_at = NULL WHERE id = ?1";
/// Parameters: id, floor, when its segment began.
pub(super) const MOVE_FLOOR: &str = "UPDATE projects SET floor = ?2, floor_at = ?3 WHERE id = ?1";
/// Parameters: id, when. The floor is where it was: at the next message.
pub(super) const PROJECT_FILLED: &str = "UPDATE projects SET floor_at = ?2, emptied_at = NULL WHERE id = ?1";
/// None if it holds something, or has held nothing for longer. Parameters: id, when. Row: name.
pub(super) const PROJECT_EMPTIED: &str = "
    UPDATE projects SET emptied_at = ?2
    WHERE id = ?1 AND floor_at IS NULL AND emptied_at IS NULL AND NOT EXISTS (SELECT 1 FROM runs WHERE project = ?1)
    RETURNING name";
/// Projects that hold nothing, not even a key. Parameters: empty before this, how many. Row: name.
pub(super) const FORGET_PROJECTS: &str = "
    DELETE FROM projects WHERE id IN (
        SELECT id FROM projects WHERE emptied_at < ?1 AND key_bytes = 0 ORDER BY emptied_at, id LIMIT ?2)
    RETURNING name";
/// Since when the project has been empty that has been for the longest; null where there is none.
pub(super) const LONGEST_EMPTY: &str = "SELECT min(emptied_at) FROM projects WHERE emptied_at IS NOT NULL";
pub(super) const EMPTY_PROJECTS: &str = "SELECT count(*) FROM projects WHERE emptied_at IS NOT NULL";
/// Parameters: id, more bytes of keys.
pub(super) const PROJECT_KEYS: &str = "UPDATE projects SET key_bytes = key_bytes + ?2 WHERE id = ?1";
/// Parameter: name.
pub(super) const KEY_BYTES: &str = "SELECT key_bytes FROM projects WHERE name = ?1";
/// Parameter: name. Row: id, floor.
pub(super) const FLOOR: &str = "SELECT id, floor FROM projects WHERE name = ?1";
/// Parameter: name.
pub(super) const NEWEST: &str = "SELECT newest FROM projects WHERE name = ?1";
/// Row: name, newest, last activity.
pub(super) const KEPT_PROJECTS: &str =
    "SELECT name, newest, last_activity FROM projects WHERE emptied_at IS NULL ORDER BY name";
/// Parameter: name. Row: as before.
pub(super) const REMAINS: &str = "SELECT name, newest, last_activity FROM projects WHERE name = ?1";
pub(super) const PROJECT_IDS: &str = "SELECT id FROM projects WHERE emptied_at IS NULL";
/// Parameter: id. Row: id, newest, floor, ended runs.
pub(super) const PROJECT_SIZE: &str = "SELECT id, newest, floor, ended_runs FROM projects WHERE id = ?1";
/// The project whose oldest message is the oldest. Row: id, newest, floor, when.
pub(super) const OLDEST_PROJECT: &str =
    "SELECT id, newest, floor, floor_at FROM projects WHERE floor_at IS NOT NULL ORDER BY floor_at, id LIMIT 1";
/// Parameter: id.
pub(super) const PROJECT_NAME: &str = "SELECT name FROM projects WHERE id = ?1";

// Messages.

/// Parameters: project, first seq, how many, when the first, when the last, bytes, messages.
pub(super) const NEW_SEGMENT: &str = "INSERT INTO segments VALUES (?1 << 40 | ?2, ?3, ?4, ?5, ?6, ?7)";
/// Parameters: project, first seq, how many, when the last, bytes, messages.
pub(super) const SEGMENT_GREW: &str =
    "UPDATE segments SET count = ?3, last_at = ?4, bytes = ?5, messages = ?6 WHERE id = (?1 << 40 | ?2)";
/// Parameters: project, first seq.
pub(super) const SEGMENT: &str = "SELECT messages FROM segments WHERE id = (?1 << 40 | ?2)";
/// Parameter: project. Row: first seq, how many, when the first, when the last, bytes.
pub(super) const LAST_SEGMENT: &str = "
    SELECT id & 0xFFFFFFFFFF, count, first_at, last_at, bytes FROM segments
    WHERE id > ?1 << 40 AND id < (?1 + 1) << 40 ORDER BY id DESC LIMIT 1";
/// From that on which holds a message. Parameters: project, the message. Row: first seq, messages.
pub(super) const SEGMENTS: &str = "
    SELECT id & 0xFFFFFFFFFF, messages FROM segments
    WHERE id >= (SELECT coalesce(max(id), ?1 << 40) FROM segments WHERE id > ?1 << 40 AND id <= (?1 << 40 | ?2))
        AND id < (?1 + 1) << 40
    ORDER BY id";
/// Parameters: project, before this, [`SEQ_END`] at most. Row: first seq, messages; newest first.
pub(super) const SEGMENTS_BEFORE: &str = "
    SELECT id & 0xFFFFFFFFFF, messages FROM segments
    WHERE id > ?1 << 40 AND id < (?1 << 40) + ?2 ORDER BY id DESC";
/// No message has this number, or a higher one: so much room its number has in the id of a segment.
pub(super) const SEQ_END: u64 = 1 << 40;
/// The oldest segments. Parameter: project. Row: first seq, how many, when the first, when the last, bytes.
pub(super) const EXTENTS: &str = "
    SELECT id & 0xFFFFFFFFFF, count, first_at, last_at, bytes FROM segments
    WHERE id > ?1 << 40 AND id < (?1 + 1) << 40 ORDER BY id";
/// Parameters: project, up to before this.
pub(super) const DROP_SEGMENTS: &str = "DELETE FROM segments WHERE id > ?1 << 40 AND id < (?1 << 40 | ?2)";

/// Parameters: run, seq, when, place, text.
pub(super) const NEW_OUTLASTING: &str = "INSERT INTO outlasting VALUES (?1, ?2, ?3, ?4, ?5)";
/// Parameters: run, after this. Row: seq, when, run, place, text.
pub(super) const OUTLASTING: &str =
    "SELECT seq, at, run, place, json FROM outlasting WHERE run = ?1 AND seq > ?2 ORDER BY seq";
pub(super) const HAS_OUTLASTING: &str = "SELECT EXISTS (SELECT 1 FROM outlasting)";
/// Parameter: run.
pub(super) const DROP_OUTLASTING: &str = "DELETE FROM outlasting WHERE run = ?1";

// Runs.

/// Parameters: number, project, id, when, since, fingerprint, bytes.
pub(super) const NEW_RUN: &str = "
    INSERT INTO runs (number, project, run_id, created_at, since, fingerprint, bytes, cancelled)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)";
/// Parameters: run, document and answer.
pub(super) const NEW_DOCUMENT: &str = "INSERT INTO documents VALUES (?1, ?2)";
/// The same.
pub(super) const PUT_DOCUMENT: &str = "UPDATE documents SET packed = ?2 WHERE run = ?1";
/// Parameter: run.
pub(super) const CANCEL_RUN: &str = "UPDATE runs SET cancelled = 1 WHERE number = ?1";
/// None if it has ended. Parameter: run. Row: project, when it was taken on, since.
pub(super) const OPEN_RUN: &str = "SELECT project, created_at, since FROM runs WHERE number = ?1 AND ended_at IS NULL";
/// Parameter: run.
pub(super) const PROJECT_OF_RUN: &str = "SELECT project FROM runs WHERE number = ?1";
/// Parameters: run, its first message, its last, when that was kept, its status, more bytes.
pub(super) const END_RUN: &str = "
    UPDATE runs SET first_seq = ?2, last_seq = ?3, ended_at = ?4, status = ?5, bytes = bytes + ?6 WHERE number = ?1";
/// Parameters: run, summary, state and outer messages.
pub(super) const NEW_STATE: &str = "INSERT INTO states VALUES (?1, ?2, ?3)";
/// Parameter: number. Row: id, when, fingerprint, document and answer.
pub(super) const RUN: &str = "
    SELECT run_id, created_at, fingerprint, packed FROM runs JOIN documents ON run = number WHERE number = ?1";
/// Where a run's messages are. Parameter: number. Row: its project, that one's floor, since, its first message and its
/// last if it has ended.
pub(super) const RUN_EXTENT: &str = "
    SELECT project, (SELECT floor FROM projects WHERE id = project), since, first_seq, last_seq
    FROM runs WHERE number = ?1";
/// Parameter: run.
pub(super) const STATE: &str = "SELECT packed FROM states WHERE run = ?1";
/// Parameter: run.
pub(super) const SUMMARY: &str = "SELECT summary FROM states WHERE run = ?1";
/// Parameters: project's name, run's id.
pub(super) const RUN_BY_ID: &str =
    "SELECT number FROM runs WHERE project = (SELECT id FROM projects WHERE name = ?1) AND run_id = ?2";
/// Parameters: project's name, before this one.
pub(super) const RUNS: &str = "
    SELECT number FROM runs INDEXED BY runs_of_project
    WHERE project = (SELECT id FROM projects WHERE name = ?1) AND status IS NULL AND number < ?2
    UNION ALL SELECT number FROM runs INDEXED BY runs_of_project
    WHERE project = (SELECT id FROM projects WHERE name = ?1) AND status = 0 AND number < ?2
    UNION ALL SELECT number FROM runs INDEXED BY runs_of_project
    WHERE project = (SELECT id FROM projects WHERE name = ?1) AND status = 1 AND number < ?2
    UNION ALL SELECT number FROM runs INDEXED BY runs_of_project
    WHERE project = (SELECT id FROM projects WHERE name = ?1) AND status = 2 AND number < ?2
    ORDER BY number DESC";
/// Parameters: project's name, before this one, status.
pub(super) const RUNS_ENDED_AS: &str = "
    SELECT number FROM runs INDEXED BY runs_of_project
    WHERE project = (SELECT id FROM projects WHERE name = ?1) AND status = ?3 AND number < ?2
    ORDER BY number DESC";
/// Runs of a project that go on, oldest first. Parameter: project. Row: number, since.
pub(super) const OPEN_RUNS_OF: &str = "
    SELECT number, since FROM runs INDEXED BY runs_of_project WHERE project = ?1 AND status IS NULL ORDER BY number";
/// Row: number, project's name, cancelled.
pub(super) const OPEN_RUNS: &str = "
    SELECT number, name, cancelled FROM runs JOIN projects ON id = project
    WHERE ended_at IS NULL ORDER BY number";
/// Parameter: since when. Row: number, project's name, when, its first and last seq.
pub(super) const ENDED_SINCE: &str = "
    SELECT number, name, ended_at, first_seq, last_seq FROM runs INDEXED BY runs_by_end JOIN projects ON id = project
    WHERE ended_at >= ?1 ORDER BY ended_at, number";
/// Row: number, when it ended.
pub(super) const OLDEST_ENDED: &str =
    "SELECT number, ended_at FROM runs WHERE ended_at IS NOT NULL ORDER BY ended_at, number LIMIT 1";
/// Parameters: project, how many.
pub(super) const OLDEST_ENDED_OF: &str = "
    SELECT number FROM runs INDEXED BY runs_of_project WHERE project = ?1 AND status = 0
    UNION ALL SELECT number FROM runs INDEXED BY runs_of_project WHERE project = ?1 AND status = 1
    UNION ALL SELECT number FROM runs INDEXED BY runs_of_project WHERE project = ?1 AND status = 2
    ORDER BY number LIMIT ?2";
/// What a run weighs: asked before it is dropped, as `RETURNING` would make a table of each answer. Parameter: run. Row:
/// project, bytes, those of its outputs or null where it has none.
pub(super) const RUN_WEIGHT: &str =
    "SELECT project, bytes, (SELECT sum(bytes) FROM outputs WHERE run = ?1) FROM runs WHERE number = ?1";
/// Parameter: run.
pub(super) const LET_OUTPUTS_GO: &str = "UPDATE outputs SET run = NULL WHERE run = ?1";
/// Each with the run as parameter: all of one that has ended.
pub(super) const DROP_RUN: [&str; 3] =
    ["DELETE FROM runs WHERE number = ?1", "DELETE FROM documents WHERE run = ?1", "DELETE FROM states WHERE run = ?1"];
/// Parameters: run, more bytes.
pub(super) const RUN_GREW: &str = "UPDATE runs SET bytes = bytes + ?2 WHERE number = ?1";

// Items.

/// Parameters: run, step, item. Row: bytes.
pub(super) const ITEM_BYTES: &str = "SELECT length(row) FROM items WHERE run = ?1 AND step = ?2 AND item = ?3";
/// Parameters: run, step, item, row.
pub(super) const PUT_ITEM: &str = "
    INSERT INTO items (run, step, item, row) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (run, step, item) DO UPDATE SET row = excluded.row";
/// None of a run that is gone. Parameters: run, step, from this one on. Row: item, row.
pub(super) const ITEMS: &str = "
    SELECT item, row FROM items
    WHERE run = ?1 AND step = ?2 AND item >= ?3 AND EXISTS (SELECT 1 FROM runs WHERE number = ?1) ORDER BY item";
/// It is noted that the items of a run, if it has any, are to go. Parameter: run.
pub(super) const LET_ITEMS_GO: &str = "
    INSERT OR REPLACE INTO meta SELECT 'items:' || ?1, ?1 WHERE EXISTS (SELECT 1 FROM items WHERE run = ?1)";
/// A run whose items are to go.
pub(super) const ITEMS_LET_GO: &str = "SELECT value FROM meta WHERE key > 'items:' AND key < 'items;' LIMIT 1";
/// Parameters: run, how many.
pub(super) const DROP_SOME_ITEMS: &str = "DELETE FROM items WHERE id IN (SELECT id FROM items WHERE run = ?1 LIMIT ?2)";
/// Parameter: run.
pub(super) const ITEMS_ARE_GONE: &str = "DELETE FROM meta WHERE key = 'items:' || ?1";

// Outputs.

/// Parameters: run, step. Row: id, attempt, bytes.
pub(super) const OUTPUT: &str = "SELECT id, attempt, bytes FROM outputs WHERE run = ?1 AND step = ?2";
/// Parameters: run, step, attempt.
pub(super) const NEW_OUTPUT: &str = "INSERT INTO outputs (run, step, attempt, bytes) VALUES (?1, ?2, ?3, 0)";
/// A run keeps what a step of another wrote, as if no attempt had. Parameters: run, the other, step.
pub(super) const KEEP_OUTPUT: &str = "
    INSERT INTO outputs (run, step, attempt, bytes) SELECT ?1, step, 0, bytes FROM outputs WHERE run = ?2 AND step = ?3";
/// In their order. Parameters: output, the other.
pub(super) const KEEP_PIECES: &str =
    "INSERT INTO pieces (output, stream, bytes) SELECT ?1, stream, bytes FROM pieces WHERE output = ?2 ORDER BY id";
/// Parameter: id.
pub(super) const LET_OUTPUT_GO: &str = "UPDATE outputs SET run = NULL WHERE id = ?1";
/// Parameters: id, more bytes.
pub(super) const OUTPUT_GREW: &str = "UPDATE outputs SET bytes = bytes + ?2 WHERE id = ?1";
/// Parameters: output, stream, bytes.
pub(super) const NEW_PIECE: &str = "INSERT INTO pieces (output, stream, bytes) VALUES (?1, ?2, ?3)";
/// How long pieces are, without reading them. Parameters: output, stream, after this one. Row: id, bytes.
pub(super) const PIECE_SIZES: &str =
    "SELECT id, length(bytes) FROM pieces WHERE output = ?1 AND stream = ?2 AND id > ?3 ORDER BY id";
/// Parameters: output, stream, from this one on. Row: the bytes.
pub(super) const PIECES: &str = "SELECT bytes FROM pieces WHERE output = ?1 AND stream = ?2 AND id >= ?3 ORDER BY id";
/// Parameters: output, stream.
pub(super) const PIECES_BYTES: &str =
    "SELECT coalesce(sum(length(bytes)), 0) FROM pieces WHERE output = ?1 AND stream = ?2";
/// Parameters: output, stream.
pub(super) const DROP_PIECES: &str = "DELETE FROM pieces WHERE output = ?1 AND stream = ?2";
/// An output that was let go.
pub(super) const LET_GO: &str = "SELECT id FROM outputs WHERE run IS NULL LIMIT 1";
/// Parameters: output, how many.
pub(super) const DROP_SOME_PIECES: &str =
    "DELETE FROM pieces WHERE id IN (SELECT id FROM pieces WHERE output = ?1 LIMIT ?2)";
/// Parameter: id.
pub(super) const DROP_OUTPUT: &str = "DELETE FROM outputs WHERE id = ?1";

// Keys.

/// Parameters: project, name, when, bytes, fingerprint, answer.
pub(super) const NEW_KEY: &str =
    "INSERT INTO keys (project, name, at, bytes, fingerprint, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/// Parameters: project, name. Row: bytes.
pub(super) const REPLACED_KEY: &str = "DELETE FROM keys WHERE project = ?1 AND name = ?2 RETURNING bytes";
/// Parameters: project's name, name. Row: when, fingerprint, answer.
pub(super) const KEY: &str = "
    SELECT at, fingerprint, answer FROM keys
    WHERE project = (SELECT id FROM projects WHERE name = ?1) AND name = ?2";
/// When the oldest was used; null where there is none.
pub(super) const OLDEST_KEY: &str = "SELECT min(at) FROM keys";
/// Parameters: used before this, how many. Row: project, bytes.
pub(super) const DROP_KEYS: &str = "
    DELETE FROM keys WHERE id IN (SELECT id FROM keys WHERE at < ?1 ORDER BY at LIMIT ?2)
    RETURNING project, bytes";

// Tickets.

/// Parameters: until when, note.
pub(super) const NEW_TICKET: &str = "INSERT INTO tickets (until, note) VALUES (?1, ?2)";
/// In their order. Parameter: until later than this.
pub(super) const TICKETS: &str = "SELECT note FROM tickets WHERE until > ?1 ORDER BY id";
/// Parameters: the end of those that go, how many.
pub(super) const DROP_TICKETS: &str =
    "DELETE FROM tickets WHERE id IN (SELECT id FROM tickets WHERE until <= ?1 LIMIT ?2)";
