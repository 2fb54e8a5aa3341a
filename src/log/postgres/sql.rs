//! All statements, except the database functions in `schema/`. No other file of this module contains SQL.
//!
//! Writes are sent together with their `COMMIT`: no transaction ever waits for a node.

/// The version of the tables.
pub(super) const SCHEMA_VERSION: i32 = 2;

/// The statements that migrate the tables of each version to the next, of version 1 first. The functions are created
/// again afterwards, so a function with a changed signature is dropped here.
pub(super) const MIGRATIONS: [&str; SCHEMA_VERSION as usize - 1] =
    ["DROP FUNCTION IF EXISTS stepcast_append; DROP FUNCTION IF EXISTS stepcast_sweep"];
/// Parameter: version.
pub(super) const SET_VERSION: &str = "UPDATE stepcast_cluster SET version = $1";

/// Makes the tables, and what has to happen in the engine.
pub(super) const TABLES: &str = include_str!("schema/tables.sql");
/// See [`TABLES`].
pub(super) const FUNCTIONS: &str = include_str!("schema/functions.sql");
/// See [`TABLES`]. `{schema}`, `{channel}` and `{payload_max}` are put in.
pub(super) const PUBLISH: &str = include_str!("schema/publish.sql");

/// Begins what is written together. Where this node is stopped in the middle of sending it, it holds nobody up for long.
pub(super) const BEGIN: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 5000";
/// Begins what is read together.
pub(super) const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Begins what waits for this node, where it could not get through otherwise. Not for long.
pub(super) const BEGIN_LOCKED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 2000; \
     SET LOCAL lock_timeout = 1000";
/// Parameter: names.
pub(super) const LOCK_PROJECTS: &str = "SELECT FROM stepcast_projects WHERE name = ANY ($1) ORDER BY name FOR UPDATE";

// The engine, and who the store is.

/// Row: version of the engine, encoding, schema, is there a cluster.
pub(super) const ENGINE: &str = "
    SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), quote_ident(current_schema()),
        EXISTS (SELECT FROM pg_class WHERE relname = 'stepcast_cluster' AND pg_table_is_visible(oid)),
        current_setting('server_version')";
/// Row: version, master key, instance.
pub(super) const CLUSTER: &str = "SELECT version, master_key, instance FROM stepcast_cluster";
/// Parameters: version, master key, instance.
pub(super) const NEW_CLUSTER: &str = "INSERT INTO stepcast_cluster (version, master_key, instance) VALUES ($1, $2, $3)";
/// Nodes that are alive and go by another version. Parameter: this one. Row: version.
pub(super) const OTHER_VERSIONS: &str =
    "SELECT version FROM stepcast_nodes WHERE version <> $1 AND until > clock_timestamp() LIMIT 1";
/// Foreign tables with the names of our tables, if there is no cluster. Row: name.
pub(super) const FOREIGN_TABLES: &str = "
    SELECT relname::text FROM pg_class
    WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p', 'v') AND relname LIKE 'stepcast\\_%' LIMIT 1";
/// In their order. Parameter: until later than this. Row: note.
pub(super) const TICKETS: &str = "SELECT note FROM stepcast_tickets WHERE until > $1 ORDER BY id";

// Who is alive.

/// A row if the tables have this version. A migration waits for a node that joins, and the other way round. Parameters:
/// node, version, milliseconds.
pub(super) const NEW_NODE: &str = "
    INSERT INTO stepcast_nodes (id, version, until)
        SELECT $1, version, clock_timestamp() + $3::bigint * interval '1 millisecond' FROM stepcast_cluster WHERE version = $2 FOR SHARE
        RETURNING true";
/// The writer of a node that has joined. Parameter: node. Row: epoch, batch.
pub(super) const NEW_WRITER: &str =
    "INSERT INTO stepcast_writers (node) SELECT id FROM stepcast_nodes WHERE id = $1 RETURNING epoch, batch";
/// Parameter: node.
pub(super) const TAKE_DUTIES: &str =
    "SELECT stepcast_take_duties($1) WHERE EXISTS (SELECT FROM stepcast_nodes WHERE id = $1)";
/// A row where it is alive. Parameters: node, milliseconds.
pub(super) const BEAT: &str = "
    UPDATE stepcast_nodes SET until = clock_timestamp() + $2::bigint * interval '1 millisecond'
    WHERE id = $1 AND until > clock_timestamp() RETURNING true";
/// Parameters: node, milliseconds to wait. Row: dead, projects, alive.
pub(super) const TAKE_OVER: &str = "SELECT dead, projects, nodes FROM stepcast_take_over($1, $2)";
/// The projects with open runs of a node. Parameter: node. Row: name.
pub(super) const OWN_PROJECTS: &str = "
    SELECT DISTINCT p.name FROM stepcast_runs r JOIN stepcast_projects p ON p.id = r.project
    WHERE r.node = $1 AND r.ended_at IS NULL";
/// Parameter: node.
pub(super) const LEAVE: &str = "UPDATE stepcast_nodes SET until = '-infinity' WHERE id = $1";
/// Parameter: node.
pub(super) const LEAVE_DUTIES: &str = "DELETE FROM stepcast_duties WHERE node = $1";
/// Whatever an earlier connection of the node still does comes to nothing, or is done by then. Parameter: node.
pub(super) const RAISE_EPOCH: &str = "UPDATE stepcast_writers SET epoch = epoch + 1 WHERE node = $1";
/// Parameter: node. Row: epoch, batch, whether it is known.
pub(super) const WRITER: &str = "
    SELECT epoch, batch, EXISTS (SELECT FROM stepcast_nodes WHERE id = node AND until > clock_timestamp())
    FROM stepcast_writers WHERE node = $1";
/// A row where it is alive: the number. Parameters: node, epoch.
pub(super) const PROBE: &str = "
    UPDATE stepcast_writers SET probe = probe + 1 WHERE node = $1 AND epoch = $2
        AND EXISTS (SELECT FROM stepcast_nodes WHERE id = node AND until > clock_timestamp()) RETURNING probe";
/// Parameter: node. Row: is no other alive.
pub(super) const IS_ALONE: &str =
    "SELECT NOT EXISTS (SELECT FROM stepcast_nodes WHERE id <> $1 AND until > clock_timestamp())";
/// Parameter: node. Row: the number of its newest probe.
pub(super) const PROBED: &str = "SELECT probe FROM stepcast_writers WHERE node = $1";
/// A hint may be lost, so the disk is not waited for. Parameters: channel, what.
pub(super) const NOTIFY: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
/// Parameters: duty, node. Row: whether it is this node's.
pub(super) const HAS_DUTY: &str = "SELECT EXISTS (SELECT FROM stepcast_duties WHERE name = $1 AND node = $2)";

// What is written.

/// See `functions.sql`. Row: of what there are conflicts, or null.
pub(super) const APPEND: &str = "
    SELECT stepcast_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
        $22, $23, $24, $25, $26)";
/// Parameters: numbers, projects, ids, when, bytes, fingerprints, documents, answers; node.
pub(super) const NEW_RUNS: &str = "
    WITH r AS (
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[], $8::bytea[])
            AS r (number, project, run_id, created_at, bytes, fingerprint, document, answer)),
    made AS (
        INSERT INTO stepcast_runs (number, project, run_id, node, created_at, bytes, fingerprint)
            SELECT r.number, p.id, r.run_id, $9, r.created_at, r.bytes, r.fingerprint
            FROM r JOIN stepcast_projects p ON p.name = r.project)
    INSERT INTO stepcast_documents (run, document, answer) SELECT number, document, answer FROM r";
/// Parameters: numbers, documents.
pub(super) const PUT_DOCUMENTS: &str = "
    WITH x AS (
        SELECT r.number, r.project, d.document, octet_length(d.document) - octet_length(o.document) AS more
        FROM unnest($1::bigint[], $2::bytea[]) AS d (number, document)
            JOIN stepcast_runs r ON r.number = d.number JOIN stepcast_documents o ON o.run = d.number),
    a AS (UPDATE stepcast_documents o SET document = x.document FROM x WHERE o.run = x.number),
    b AS (UPDATE stepcast_runs r SET bytes = r.bytes + x.more FROM x WHERE r.number = x.number)
    UPDATE stepcast_projects p SET run_bytes = p.run_bytes + s.more
        FROM (SELECT project, sum(more) AS more FROM x GROUP BY project) s WHERE p.id = s.project";
/// Parameter: numbers.
pub(super) const CANCEL_RUNS: &str = "UPDATE stepcast_runs SET cancelled = true WHERE number = ANY ($1)";
/// Parameters: runs, steps, items, rows.
pub(super) const PUT_ITEMS: &str = "
    WITH x AS (
        SELECT i.*, r.project,
            octet_length(i.state) + CASE WHEN o.run IS NULL THEN 48 ELSE -octet_length(o.state) END AS more
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[]) AS i (run, step, item, state)
            JOIN stepcast_runs r ON r.number = i.run
            LEFT JOIN stepcast_items o ON o.run = i.run AND o.step = i.step AND o.item = i.item),
    a AS (
        INSERT INTO stepcast_items (run, step, item, state) SELECT run, step, item, state FROM x
            ON CONFLICT (run, step, item) DO UPDATE SET state = excluded.state),
    b AS (
        UPDATE stepcast_runs r SET bytes = r.bytes + s.more
            FROM (SELECT run, sum(more) AS more FROM x GROUP BY run) s WHERE r.number = s.run)
    UPDATE stepcast_projects p SET run_bytes = p.run_bytes + s.more
        FROM (SELECT project, sum(more) AS more FROM x GROUP BY project) s WHERE p.id = s.project";
/// Parameters: kinds, runs, steps, attempts, streams, bytes, other runs.
pub(super) const KEEP_OUTPUTS: &str = "SELECT stepcast_keep_outputs($1, $2, $3, $4, $5, $6, $7)";
/// Turn messages of these runs below the floor are deleted. Parameters: numbers, last messages, statuses, summaries,
/// states.
pub(super) const END_RUNS: &str = "
    WITH x AS (
        SELECT e.*, r.project, coalesce(l.at, r.created_at) AS ended_at, coalesce(f.seq, l.seq) AS first_seq,
            octet_length(e.summary) + octet_length(e.state) + CASE WHEN f.place = 1 THEN f.weight ELSE 0 END
                + CASE WHEN l.place = 3 THEN octet_length(l.json) + 96 ELSE 0 END AS weight
        FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bytea[], $5::bytea[])
                AS e (number, last_seq, status, summary, state)
            JOIN stepcast_runs r ON r.number = e.number AND r.ended_at IS NULL
            LEFT JOIN LATERAL (
                SELECT seq, place, octet_length(json) + 96 AS weight FROM stepcast_messages m
                WHERE m.run = e.number ORDER BY m.seq LIMIT 1) f ON true
            LEFT JOIN stepcast_messages l ON l.project = r.project AND l.seq = e.last_seq),
    a AS (
        UPDATE stepcast_runs r SET ended_at = x.ended_at, first_seq = x.first_seq, last_seq = x.last_seq,
            status = x.status, bytes = r.bytes + x.weight
        FROM x WHERE r.number = x.number),
    b AS (INSERT INTO stepcast_states (run, summary, state) SELECT number, summary, state FROM x),
    c AS (
        DELETE FROM stepcast_messages m USING x JOIN stepcast_projects p ON p.id = x.project
        WHERE x.first_seq < p.swept AND m.run = x.number AND m.place = 2 AND m.seq < p.swept)
    UPDATE stepcast_projects p SET ended_runs = p.ended_runs + s.count, run_bytes = p.run_bytes + s.weight
        FROM (SELECT project, count(*) AS count, sum(weight) AS weight FROM x GROUP BY project) s WHERE p.id = s.project";
/// Parameters: projects, names, when, bytes, fingerprints, answers; how long a key is bound.
pub(super) const BIND_KEYS: &str = "SELECT stepcast_bind_keys($1, $2, $3, $4, $5, $6, $7)";
/// Parameters: after which number, except these, how many. Tickets with a longer life; that one is spent is found out
/// when it is to be spent.
pub(super) const EXTENDED_TICKETS: &str =
    "SELECT id, note FROM stepcast_tickets WHERE spent IS NULL AND id > $1 AND id <> ALL ($2) ORDER BY id LIMIT $3";

/// Parameters: until when, which ticket is spent, notes.
pub(super) const NOTE_TICKETS: &str = "SELECT stepcast_note_tickets($1, $2, $3)";
/// Parameters: webhooks, when, projects, runs, their ids, `seq`s, what.
pub(super) const NEW_DUE: &str = "
    INSERT INTO stepcast_outbox (webhook, next_at, project, run, run_id, seq, notable, at)
        SELECT webhook, at, project, run, run_id, seq, notable, at
        FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::smallint[])
            WITH ORDINALITY AS d (webhook, at, project, run, run_id, seq, notable, place) ORDER BY place";
/// Parameters: ids, attempts, when.
pub(super) const PUT_OFF: &str = "
    UPDATE stepcast_outbox o SET attempts = p.attempts, next_at = p.next_at
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS p (id, attempts, next_at) WHERE o.id = p.id";
/// Parameter: ids.
pub(super) const DELETE_DUE: &str = "DELETE FROM stepcast_outbox WHERE id = ANY ($1)";
/// Parameter: webhooks.
pub(super) const LET_DUE_GO: &str = "DELETE FROM stepcast_outbox WHERE webhook = ANY ($1)";
/// Parameters: projects, names, tags, when, summaries, schedules, since when, firings, newest runs, bytes, weights.
pub(super) const PUT_PLANS: &str = "
    INSERT INTO stepcast_plans (project, name, tag, updated_at, summary, schedule, scheduled_at, firings, last_run,
            document_bytes, weight)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bigint[],
            $8::bytea[], $9::text[], $10::bigint[], $11::bigint[])
        ON CONFLICT (project, name) DO UPDATE SET tag = excluded.tag, updated_at = excluded.updated_at,
            summary = excluded.summary, schedule = excluded.schedule, scheduled_at = excluded.scheduled_at,
            firings = excluded.firings, last_run = excluded.last_run, document_bytes = excluded.document_bytes,
            weight = excluded.weight";
/// Parameters: projects, names, documents.
pub(super) const PUT_PLAN_DOCUMENTS: &str = "
    INSERT INTO stepcast_plan_documents (project, name, document) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
        ON CONFLICT (project, name) DO UPDATE SET document = excluded.document";
/// Parameters: projects, names.
pub(super) const REMOVE_PLANS: &str = "
    WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS gone (project, name)),
    documents AS (
        DELETE FROM stepcast_plan_documents d USING gone WHERE d.project = gone.project AND d.name = gone.name)
    DELETE FROM stepcast_plans p USING gone WHERE p.project = gone.project AND p.name = gone.name";
/// Parameters: ids, projects, runs' ids, runs, wishes.
pub(super) const NEW_WISHES: &str = "
    INSERT INTO stepcast_wishes (id, project, run_id, run, wish)
        SELECT id, project, run_id, run, wish
        FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])
            WITH ORDINALITY AS w (id, project, run_id, run, wish, place) ORDER BY place";
/// Parameters: ids, answers.
pub(super) const SETTLE_WISHES: &str = "
    UPDATE stepcast_wishes w SET answer = s.answer FROM unnest($1::bytea[], $2::bytea[]) AS s (id, answer)
        WHERE w.id = s.id AND w.answer IS NULL";
/// Parameter: ids.
pub(super) const DRAIN: &str = "SELECT stepcast_drain($1)";
/// The projects of what is taken. Parameters: numbers, projects and ids of runs; projects, names and times of keys; how long a key
/// is bound. Row: project, newest, revision.
pub(super) const TAKEN: &str = "
    SELECT name, newest, revision FROM stepcast_projects WHERE name IN (
        SELECT r.project FROM unnest($1::bigint[], $2::text[], $3::text[]) AS r (number, project, run_id)
        WHERE EXISTS (SELECT FROM stepcast_runs t WHERE t.number = r.number) OR EXISTS (
            SELECT FROM stepcast_runs t JOIN stepcast_projects p ON p.id = t.project
            WHERE p.name = r.project AND t.run_id = r.run_id)
        UNION
        SELECT k.project FROM unnest($4::text[], $5::bytea[], $6::bigint[]) AS k (project, name, at)
            JOIN stepcast_projects p ON p.name = k.project
            JOIN stepcast_keys o ON o.project = p.id AND o.name = k.name
        WHERE k.at - o.at <= $7)";

// For a start, or when projects are read again.

/// Parameter: names, or null for all that hold something. Row: name, newest, revision, last activity, first of the tail, when that
/// was kept, its bytes, when the newest was kept, does it hold a message.
pub(super) const PROJECTS: &str = "
    SELECT name, newest, revision, last_activity, tail_first, tail_first_at, tail_bytes, newest_at, floor_at IS NOT NULL
    FROM stepcast_projects WHERE emptied_at IS NULL ORDER BY name";
/// The same for some projects. Parameter: names.
pub(super) const SOME_PROJECTS: &str = "
    SELECT name, newest, revision, last_activity, tail_first, tail_first_at, tail_bytes, newest_at, floor_at IS NOT NULL
    FROM stepcast_projects WHERE emptied_at IS NULL AND name = ANY ($1) ORDER BY name";
/// The same, also for an empty project. Parameter: name.
pub(super) const REMAINS: &str = "
    SELECT name, newest, revision, last_activity, tail_first, tail_first_at, tail_bytes, newest_at, floor_at IS NOT NULL
    FROM stepcast_projects WHERE name = $1";
/// Parameter: names. Row: name, newest, revision.
pub(super) const STANDINGS: &str = "SELECT name, newest, revision FROM stepcast_projects WHERE name = ANY ($1)";
/// Parameters: after this one, how many. Row: as before.
pub(super) const STANDINGS_AFTER: &str = "
    SELECT name, newest, revision FROM stepcast_projects WHERE emptied_at IS NULL AND name > $1 ORDER BY name LIMIT $2";
/// A row for each slice of a document. Row: number, project, id, when, cancelled, node, slice or null, where it begins.
pub(super) const OPEN_RUNS: &str = "
    SELECT o.number, o.name, o.run_id, o.created_at, o.cancelled, o.node, substr(w.whole, at, 1048576), at
    FROM (
            SELECT r.number, p.name, r.run_id, r.created_at, r.cancelled, r.node, d.document
            FROM stepcast_runs r JOIN stepcast_projects p ON p.id = r.project JOIN stepcast_documents d ON d.run = r.number
            WHERE r.ended_at IS NULL ORDER BY r.number) o,
        LATERAL (SELECT o.document || '' AS whole OFFSET 0) w,
        LATERAL generate_series(1, greatest(octet_length(w.whole), 1), 1048576) AS at";
/// The same for some projects. The documents of these runs are left out unless they contain a text. Parameters: names,
/// numbers, text.
pub(super) const SOME_OPEN_RUNS: &str = "
    SELECT o.number, o.name, o.run_id, o.created_at, o.cancelled, o.node, substr(w.whole, at, 1048576), at
    FROM (
            SELECT r.number, p.name, r.run_id, r.created_at, r.cancelled, r.node,
                CASE WHEN r.number <> ALL ($2::bigint[]) OR position($3 in d.document) > 0 THEN d.document END AS document
            FROM stepcast_runs r JOIN stepcast_projects p ON p.id = r.project JOIN stepcast_documents d ON d.run = r.number
            WHERE r.ended_at IS NULL AND p.name = ANY ($1) ORDER BY r.number) o,
        LATERAL (SELECT o.document || '' AS whole OFFSET 0) w,
        LATERAL generate_series(1, greatest(octet_length(w.whole), 1), 1048576) AS at";
/// Runs that ended within this time before the clock of history. Parameter: milliseconds. Row: number, project, when,
/// its first and last seq.
pub(super) const ENDED_RUNS: &str = "
    SELECT r.number, p.name, r.ended_at, r.first_seq, r.last_seq FROM stepcast_runs r JOIN stepcast_projects p ON p.id = r.project
    WHERE r.ended_at >= greatest(
        (SELECT coalesce(max(newest_at), 0) FROM stepcast_projects),
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint) - $1
    ORDER BY r.ended_at, r.number";
/// The same for some projects. Parameters: milliseconds, names.
pub(super) const SOME_ENDED_RUNS: &str = "
    SELECT r.number, p.name, r.ended_at, r.first_seq, r.last_seq FROM stepcast_runs r JOIN stepcast_projects p ON p.id = r.project
    WHERE p.name = ANY ($2) AND r.ended_at >= (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1
    ORDER BY r.ended_at, r.number";
/// Row: the clock of history, the largest number of a run.
pub(super) const CLOCK: &str = "
    SELECT greatest((SELECT coalesce(max(newest_at), 0) FROM stepcast_projects),
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint), (SELECT coalesce(max(number), 0) FROM stepcast_runs)";
/// The same for some projects. Parameter: names.
pub(super) const SOME_CLOCK: &str = "
    SELECT greatest((SELECT coalesce(max(newest_at), 0) FROM stepcast_projects WHERE name = ANY ($1)),
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint), (SELECT coalesce(max(number), 0) FROM stepcast_runs)";

// What is read. Of pages: one project, or one output, is named as a value, so that the engine reads its index in order and sorts nothing.
// What may be large comes in slices of a MiB, each a row, because a call may take for as long as rows come; the engine unpacks it once
// for all of them.

/// Parameter: name.
pub(super) const NEWEST: &str = "SELECT newest FROM stepcast_projects WHERE name = $1";
/// Parameter: name.
pub(super) const FLOOR: &str = "SELECT floor FROM stepcast_projects WHERE name = $1";
/// Parameters: name, after this one, how many. Row: seq, when, run, place, text.
pub(super) const MESSAGES: &str = "
    SELECT m.seq, m.at, m.run, m.place, m.json FROM stepcast_messages m
    WHERE m.project = (SELECT id FROM stepcast_projects WHERE name = $1) AND m.seq > $2
        AND m.seq >= (SELECT floor FROM stepcast_projects WHERE name = $1) ORDER BY m.seq LIMIT $3";
/// The same, before this one, newest first.
pub(super) const MESSAGES_BEFORE: &str = "
    SELECT m.seq, m.at, m.run, m.place, m.json FROM stepcast_messages m
    WHERE m.project = (SELECT id FROM stepcast_projects WHERE name = $1) AND m.seq < $2
        AND m.seq >= (SELECT floor FROM stepcast_projects WHERE name = $1) ORDER BY m.seq DESC LIMIT $3";
/// Parameters: run, after this one, how many. Row: as before.
pub(super) const MESSAGES_OF_RUN: &str = "
    SELECT m.seq, m.at, m.run, m.place, m.json
    FROM stepcast_runs r JOIN stepcast_projects p ON p.id = r.project JOIN stepcast_messages m ON m.run = r.number
    WHERE r.number = $1 AND m.run = $1 AND m.seq > $2
        AND (m.seq >= p.floor OR m.place IN (1, 3) OR m.place = 2 AND r.ended_at IS NULL)
    ORDER BY m.seq LIMIT $3";
/// Parameter: run. Row: first, last.
pub(super) const ENDS: &str = "
    SELECT CASE WHEN ended_at IS NULL THEN
        (SELECT m.seq FROM stepcast_messages m WHERE m.run = $1 ORDER BY m.seq LIMIT 1) ELSE first_seq END, last_seq
    FROM stepcast_runs WHERE number = $1";
/// A row for each slice of its document. Parameter: run. Row: id, when, fingerprint, slice, answer, where the slice begins.
pub(super) const RUN: &str = "
    SELECT run_id, created_at, fingerprint, substr(whole, at, 1048576), CASE WHEN at = 1 THEN answer ELSE '' END, at
    FROM (
            SELECT run_id, created_at, fingerprint, document || '' AS whole, answer
            FROM stepcast_runs JOIN stepcast_documents ON run = number WHERE number = $1 OFFSET 0) r,
        LATERAL generate_series(1, greatest(octet_length(whole), 1), 1048576) AS at";
/// Parameter: run. Row: slice, where it begins.
pub(super) const DOCUMENT: &str = "
    SELECT substr(whole, at, 1048576), at
    FROM (SELECT document || '' AS whole FROM stepcast_documents WHERE run = $1 OFFSET 0) d,
        LATERAL generate_series(1, greatest(octet_length(whole), 1), 1048576) AS at";
/// Parameter: run. Row: as before.
pub(super) const STATE: &str = "
    SELECT substr(whole, at, 1048576), at
    FROM (SELECT state || '' AS whole FROM stepcast_states WHERE run = $1 OFFSET 0) s,
        LATERAL generate_series(1, greatest(octet_length(whole), 1), 1048576) AS at";
/// Parameter: run.
pub(super) const SUMMARY: &str = "SELECT summary FROM stepcast_states WHERE run = $1";
/// Parameters: project, id.
pub(super) const RUN_BY_ID: &str = "
    SELECT number FROM stepcast_runs WHERE project = (SELECT id FROM stepcast_projects WHERE name = $1) AND run_id = $2";
/// Parameters: project, before this one, how many.
pub(super) const RUNS: &str = "
    SELECT number FROM stepcast_runs WHERE project = (SELECT id FROM stepcast_projects WHERE name = $1) AND number < $2
    ORDER BY number DESC LIMIT $3";
/// Parameters: project, before this one, how many, status.
pub(super) const RUNS_ENDED_AS: &str = "
    SELECT number FROM stepcast_runs
    WHERE project = (SELECT id FROM stepcast_projects WHERE name = $1) AND number < $2 AND status = $4
    ORDER BY number DESC LIMIT $3";
/// Parameters: run, step. Row: attempt, stdout, stderr, text, whole.
pub(super) const OUTPUT: &str =
    "SELECT attempt, stdout, stderr, text, whole FROM stepcast_outputs WHERE run = $1 AND step = $2";
/// Parameters: run, step, stream, from, to, how many. Row: where it begins, bytes.
pub(super) const PIECES: &str = "
    SELECT p.at, p.bytes FROM stepcast_pieces p
    WHERE p.output = (SELECT id FROM stepcast_outputs WHERE run = $1 AND step = $2) AND p.stream = $3
        AND p.at < $5 AND p.at >= coalesce((
            SELECT max(b.at) FROM stepcast_pieces b
            WHERE b.output = (SELECT id FROM stepcast_outputs WHERE run = $1 AND step = $2)
                AND b.stream = $3 AND b.at <= $4), 0)
    ORDER BY p.at LIMIT $6";
/// None of a run that is gone. Parameters: run, step, from this one on, how many. Row: item, row.
pub(super) const ITEMS: &str = "
    SELECT item, state FROM stepcast_items WHERE run = $1 AND step = $2 AND item >= $3 ORDER BY item LIMIT $4";
/// Parameters: project, name. Row: when, fingerprint, answer.
pub(super) const KEY: &str = "
    SELECT at, fingerprint, answer FROM stepcast_keys
    WHERE project = (SELECT id FROM stepcast_projects WHERE name = $1) AND name = $2";
/// Parameter: project.
pub(super) const KEY_BYTES: &str = "SELECT key_bytes FROM stepcast_projects WHERE name = $1";

/// Row: webhook, how many wait.
pub(super) const OUTBOX: &str = "SELECT webhook, count(*) FROM stepcast_outbox GROUP BY webhook ORDER BY webhook";
/// Due events, the earliest first; none if another node sends webhooks. Parameters: webhook, after this time, up to
/// this one, and after this row of the former, how many; node. Row: id, attempts, when, project, run, its id, seq,
/// what, when.
pub(super) const DUE: &str = "
    SELECT id, attempts, next_at, project, run, run_id, seq, notable, at FROM stepcast_outbox
    WHERE webhook = $1 AND (next_at, id) > ($2, $3) AND next_at <= $4
        AND EXISTS (SELECT FROM stepcast_duties WHERE name = 'webhooks' AND node = $6)
    ORDER BY next_at, id LIMIT $5";
/// Null if there is none, or another node sends webhooks. Parameters: webhook, now, horizon, node.
pub(super) const NEXT_DUE: &str = "
    SELECT min(next_at) FROM stepcast_outbox WHERE webhook = $1 AND next_at > $2 AND next_at <= $3
        AND EXISTS (SELECT FROM stepcast_duties WHERE name = 'webhooks' AND node = $4)";

/// Parameters: project, name. Row: what a plan is.
pub(super) const PLAN: &str = "
    SELECT project, name, tag, updated_at, summary, schedule, scheduled_at, firings, last_run, document_bytes
    FROM stepcast_plans WHERE project = $1 AND name = $2";
/// Parameters: project, after this name, how many. Row: as before.
pub(super) const PLANS: &str = "
    SELECT project, name, tag, updated_at, summary, schedule, scheduled_at, firings, last_run, document_bytes
    FROM stepcast_plans WHERE project = $1 AND name > $2 ORDER BY name LIMIT $3";
/// Parameters: after this project and this name, how many. Row: as before.
pub(super) const SCHEDULED_PLANS: &str = "
    SELECT project, name, tag, updated_at, summary, schedule, scheduled_at, firings, last_run, document_bytes
    FROM stepcast_plans WHERE schedule IS NOT NULL AND (project, name) > ($1, $2) ORDER BY project, name LIMIT $3";
/// Parameters: project, name. Row: slice, where it begins.
pub(super) const PLAN_DOCUMENT: &str = "
    SELECT substr(whole, at, 1048576), at
    FROM (SELECT document || '' AS whole FROM stepcast_plan_documents WHERE project = $1 AND name = $2 OFFSET 0) d,
        LATERAL generate_series(1, greatest(octet_length(whole), 1), 1048576) AS at";
/// Parameter: project. Row: plans of it, with a schedule, bytes.
pub(super) const PLAN_COUNTS: &str = "
    SELECT count(*) FILTER (WHERE project = $1), count(schedule), coalesce(sum(weight), 0)::bigint FROM stepcast_plans";

// What others have written.

/// The next messages of the projects that have changed since, a fair part for each. Parameters: names, newest,
/// revisions, bytes. Row: index, revision, and a message or null.
pub(super) const CHANGES: &str = "
    WITH behind AS (
        SELECT w.place, w.newest, p.id, p.floor, coalesce(p.revision, 0) AS revision
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w (name, newest, revision, place)
            LEFT JOIN stepcast_projects p ON p.name = w.name
        WHERE coalesce(p.newest, 0) <> w.newest OR coalesce(p.revision, 0) <> w.revision),
    fair AS (SELECT $4::bigint / greatest(count(*), 1) AS bytes FROM behind)
    SELECT b.place, b.revision, m.seq, m.at, m.run, m.place, m.json
    FROM behind b LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT n.*, sum(octet_length(n.json) + 96) OVER (ORDER BY n.seq) - octet_length(n.json) - 96 AS before FROM (
                SELECT seq, at, run, place, json FROM stepcast_messages
                WHERE project = b.id AND seq > b.newest AND b.floor <= b.newest + 1 ORDER BY seq LIMIT $5) n) weighed
        WHERE before <= 0 OR before < (SELECT bytes FROM fair)) m ON true
    ORDER BY b.place, m.seq";
/// Parameter: node. Row: id, project, run's id, run, wish.
pub(super) const OPEN_WISHES: &str = "
    SELECT w.id, w.project, w.run_id, w.run, w.wish FROM stepcast_wishes w JOIN stepcast_runs r ON r.number = w.run
    WHERE w.answer IS NULL AND r.node = $1 AND r.ended_at IS NULL ORDER BY w.number";
/// The answer is empty if the run has ended without one. Parameter: ids. Row: id, answer.
pub(super) const ANSWERED_WISHES: &str = "
    SELECT w.id, coalesce(w.answer, '') FROM stepcast_wishes w LEFT JOIN stepcast_runs r ON r.number = w.run
    WHERE w.id = ANY ($1) AND (w.answer IS NOT NULL OR r.number IS NULL OR r.ended_at IS NOT NULL)";
/// Nothing where another node numbers them, else one at least. Parameters: node, how many, bytes, projects
/// without room. Row: id, project, type, payload.
pub(super) const PUBLISHED: &str = "
    SELECT id, project, type, payload FROM (
        SELECT n.*, sum(octet_length(n.payload)) OVER (ORDER BY n.id) - octet_length(n.payload) AS before FROM (
            SELECT id, project, type, payload FROM stepcast_outgoing
            WHERE EXISTS (SELECT FROM stepcast_duties WHERE name = 'drain' AND node = $1) AND project <> ALL ($4)
            ORDER BY id LIMIT $2) n) weighed
    WHERE before = 0 OR before < $3 ORDER BY id";
