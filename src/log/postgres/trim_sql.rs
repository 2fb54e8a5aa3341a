//! The statements that delete history over the limits, and what is decided by.

/// Parameters: messages, ended runs; how many projects. Row: bytes of messages, of runs, of keys; ids of projects that are too
/// large.
pub(super) const TOTALS: &str = "
    SELECT coalesce(sum(message_bytes), 0)::bigint, coalesce(sum(run_bytes), 0)::bigint, coalesce(sum(key_bytes), 0)::bigint,
        ARRAY(SELECT id FROM stepcast_projects
            WHERE newest + 1 - floor > $1 OR ended_runs > $2 ORDER BY id LIMIT $3)
    FROM stepcast_projects";
/// Parameter: id. Row: id, newest, floor, swept, ended runs, when the first was kept.
pub(super) const PROJECT_SIZE: &str =
    "SELECT id, newest, floor, swept, ended_runs, floor_at FROM stepcast_projects WHERE id = $1";
/// The project whose oldest message is the oldest. Row: as before.
pub(super) const OLDEST_PROJECT: &str = "
    SELECT id, newest, floor, swept, ended_runs, floor_at FROM stepcast_projects
    WHERE floor_at IS NOT NULL ORDER BY floor_at, id LIMIT 1";
/// The segments of this many messages. Parameters: project, from this one on, how many. Row: first seq, how many, when
/// the last, bytes.
pub(super) const EXTENTS: &str = "
    SELECT min(seq), count(*), max(at), sum(octet_length(json) + 96)::bigint FROM (
        SELECT seq, at, segment, json FROM stepcast_messages WHERE project = $1 AND seq >= $2 ORDER BY seq LIMIT $3) m
    GROUP BY segment ORDER BY segment";
/// Parameters: project, from this one on, how many. Row: bytes.
pub(super) const WEIGHTS: &str = "
    SELECT octet_length(json)::bigint + 96 FROM stepcast_messages WHERE project = $1 AND seq >= $2 ORDER BY seq LIMIT $3";
/// A row if the floor had not changed. Parameters: project, old floor, new floor.
pub(super) const RAISE_FLOOR: &str = "SELECT WHERE stepcast_raise_floor($1, $2, $3)";
/// Parameters: project, old and new first message of the first segment. Row: bytes, or null.
pub(super) const SWEEP: &str = "SELECT stepcast_sweep($1, $2, $3)";
/// Parameters: project, how many. Row: number.
pub(super) const OLDEST_ENDED_OF: &str = "
    SELECT number FROM stepcast_runs WHERE project = $1 AND status IS NOT NULL ORDER BY number LIMIT $2";
/// Row: number, when it ended, project.
pub(super) const OLDEST_ENDED: &str = "
    SELECT number, ended_at, project FROM stepcast_runs WHERE ended_at IS NOT NULL ORDER BY ended_at, number LIMIT 1";
/// Parameter: number. Row: bytes, or null.
pub(super) const DROP_RUN: &str = "SELECT stepcast_drop_run($1)";
/// Projects that hold nothing, which nobody has noted. Row: id.
pub(super) const SHRUNK: &str = "
    SELECT id FROM stepcast_projects p WHERE floor_at IS NULL AND emptied_at IS NULL
        AND NOT EXISTS (SELECT FROM stepcast_runs r WHERE r.project = p.id)";
/// Parameters: projects, when. Row: name.
pub(super) const NOTE_EMPTY: &str = "SELECT stepcast_note_empty($1, $2)";
/// Projects that hold nothing, not even a key. Parameters: empty before this, how many. Row: name.
pub(super) const FORGET_PROJECTS: &str = "
    DELETE FROM stepcast_projects WHERE emptied_at < $1 AND key_bytes = 0 AND id IN (
        SELECT id FROM stepcast_projects WHERE emptied_at < $1 AND key_bytes = 0 ORDER BY emptied_at, id LIMIT $2)
    RETURNING name";
pub(super) const EMPTY_PROJECTS: &str = "SELECT count(*) FROM stepcast_projects WHERE emptied_at IS NOT NULL";
/// Parameters: used before this, how many. Row: how many went.
pub(super) const DROP_KEYS: &str = "SELECT stepcast_drop_keys($1, $2)";
/// Parameters: until when, how many.
pub(super) const DROP_TICKETS: &str = "
    DELETE FROM stepcast_tickets WHERE id IN (SELECT id FROM stepcast_tickets WHERE until <= $1 LIMIT $2)";
/// Deletes pieces of dropped outputs. Parameters: outputs, how many pieces. Row: deleted pieces.
pub(super) const DROP_PIECES: &str = "
    WITH let_go AS (SELECT id FROM stepcast_outputs WHERE run IS NULL ORDER BY id LIMIT $1),
    old AS (
        SELECT p.output, p.stream, p.at FROM let_go JOIN stepcast_pieces p ON p.output = let_go.id LIMIT $2),
    gone AS (
        DELETE FROM stepcast_pieces p USING old WHERE p.output = old.output AND p.stream = old.stream AND p.at = old.at
        RETURNING 1)
    SELECT count(*) FROM gone";
/// Deletes dropped outputs without pieces. Parameter: how many. Row: how many dropped outputs there are.
pub(super) const DROP_OUTPUTS: &str = "
    WITH let_go AS (SELECT id FROM stepcast_outputs WHERE run IS NULL ORDER BY id LIMIT $1),
    gone AS (
        DELETE FROM stepcast_outputs o USING let_go WHERE o.id = let_go.id
            AND NOT EXISTS (SELECT FROM stepcast_pieces p WHERE p.output = o.id))
    SELECT count(*) FROM let_go";
/// Parameter: milliseconds that they stay.
pub(super) const DROP_WISHES: &str = "
    DELETE FROM stepcast_wishes WHERE made_at < clock_timestamp() - $1::bigint * interval '1 millisecond'";
/// Parameters: webhook, how many. The oldest go.
pub(super) const TRIM_OUTBOX: &str = "
    DELETE FROM stepcast_outbox WHERE id IN (SELECT id FROM stepcast_outbox WHERE webhook = $1 ORDER BY id LIMIT $2)";
