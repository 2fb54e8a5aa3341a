-- Functions for what must happen atomically in the engine. The message of an error is for people, its `DETAIL` for the program.

-- The core of an append. It stores messages only if this node is alive and each project has the expected head; then it raises the
-- heads. Projects are named in the order of their bytes, so that two appends never wait for each other. A null in `heads` or
-- `revisions` expects nothing. Returns null if everything is stored, and for a conflict the index, the newest `seq` and the revision
-- of each project. If more statements follow in the transaction, only an error can stop them: then `DETAIL` has the conflicts.
-- Writes about the runs in `revising` raise the revision of their projects.
CREATE OR REPLACE FUNCTION stepcast_append(
    me bytea, my_epoch bigint, this_batch bigint, wall bigint,
    names text[], heads bigint[], revisions bigint[], raises boolean[], actives boolean[],
    counts bigint[], first_ats bigint[], newest_ats bigint[], message_weights bigint[], run_weights bigint[],
    tail_firsts bigint[], tail_first_ats bigint[], tail_weights bigint[],
    m_projects int[], m_seqs bigint[], m_ats bigint[], m_segments bigint[], m_runs bigint[], m_places smallint[], m_jsons bytea[],
    revising bigint[], is_alone boolean
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
    newests bigint[];
    revised bigint[];
    revising_projects bigint[] := '{}';
    conflicts text := '';
BEGIN
    UPDATE stepcast_writers SET batch = this_batch WHERE node = me AND epoch = my_epoch;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM stepcast_nodes WHERE id = me AND until > clock_timestamp()) THEN
        RAISE EXCEPTION 'this node has lost its lease' USING ERRCODE = 'SC001';
    END IF;
    IF names = '{}' THEN
        RETURN NULL;
    END IF;
    IF cardinality(names) = 1 THEN
        -- As below, for the usual case.
        SELECT ARRAY[id], ARRAY[newest], ARRAY[revision] INTO ids, newests, revised
            FROM stepcast_projects WHERE name = names[1] FOR UPDATE;
    END IF;
    WHILE ids IS NULL OR cardinality(ids) < cardinality(names) LOOP
        SELECT array_agg(id), array_agg(newest), array_agg(revision) INTO ids, newests, revised FROM (
            SELECT id, newest, revision FROM stepcast_projects WHERE name = ANY (names) ORDER BY name FOR UPDATE) found;
        EXIT WHEN cardinality(ids) = cardinality(names);
        INSERT INTO stepcast_projects (name, emptied_at)
            SELECT name, wall FROM unnest(names) AS wanted (name) ORDER BY name COLLATE "C" ON CONFLICT DO NOTHING;
    END LOOP;
    FOR i IN 1 .. cardinality(names) LOOP
        IF heads[i] <> newests[i] OR revisions[i] <> revised[i] THEN
            conflicts := conflicts || (i - 1) || ' ' || newests[i] || ' ' || revised[i] || ' ';
        END IF;
    END LOOP;
    IF conflicts <> '' AND is_alone THEN
        -- Not a stored batch, so its number names none. Nothing is lost if the engine forgets it.
        PERFORM set_config('synchronous_commit', 'off', true);
        UPDATE stepcast_writers SET batch = 0 WHERE node = me;
        RETURN conflicts;
    ELSIF conflicts <> '' THEN
        RAISE EXCEPTION 'another node has written in the meantime' USING ERRCODE = 'SC002', DETAIL = conflicts;
    END IF;
    IF revising <> '{}' THEN
        revising_projects := ARRAY(SELECT project FROM stepcast_runs WHERE number = ANY (revising));
    END IF;
    IF cardinality(ids) = 1 THEN
        -- As below, for the usual case.
        UPDATE stepcast_projects p SET
            newest = p.newest + counts[1],
            revision = p.revision + (raises[1] OR p.id = ANY (revising_projects))::int,
            floor_at = CASE WHEN counts[1] > 0 THEN coalesce(p.floor_at, first_ats[1]) ELSE p.floor_at END,
            newest_at = greatest(p.newest_at, newest_ats[1]),
            tail_first = CASE WHEN counts[1] > 0 THEN tail_firsts[1] ELSE p.tail_first END,
            tail_first_at = CASE WHEN counts[1] > 0 THEN tail_first_ats[1] ELSE p.tail_first_at END,
            tail_bytes = CASE WHEN counts[1] > 0 THEN tail_weights[1] ELSE p.tail_bytes END,
            last_activity = CASE WHEN actives[1] THEN wall ELSE p.last_activity END,
            emptied_at = CASE WHEN actives[1] THEN NULL ELSE p.emptied_at END,
            message_bytes = p.message_bytes + message_weights[1],
            run_bytes = p.run_bytes + run_weights[1]
        WHERE p.id = ids[1];
    ELSE
        UPDATE stepcast_projects p SET
            newest = p.newest + g.count,
            revision = p.revision + (g.raised OR p.id = ANY (revising_projects))::int,
            floor_at = CASE WHEN g.count > 0 THEN coalesce(p.floor_at, g.first_at) ELSE p.floor_at END,
            newest_at = greatest(p.newest_at, g.newest_at),
            tail_first = CASE WHEN g.count > 0 THEN g.tail_first ELSE p.tail_first END,
            tail_first_at = CASE WHEN g.count > 0 THEN g.tail_first_at ELSE p.tail_first_at END,
            tail_bytes = CASE WHEN g.count > 0 THEN g.tail_bytes ELSE p.tail_bytes END,
            last_activity = CASE WHEN g.active THEN wall ELSE p.last_activity END,
            emptied_at = CASE WHEN g.active THEN NULL ELSE p.emptied_at END,
            message_bytes = p.message_bytes + g.message_bytes,
            run_bytes = p.run_bytes + g.run_bytes
        FROM unnest(ids, counts, raises, actives, first_ats, newest_ats, message_weights, run_weights,
            tail_firsts, tail_first_ats, tail_weights)
            AS g (id, count, raised, active, first_at, newest_at, message_bytes, run_bytes, tail_first, tail_first_at, tail_bytes)
        WHERE p.id = g.id;
    END IF;
    IF m_seqs <> '{}' THEN
        INSERT INTO stepcast_messages (project, seq, at, segment, run, place, json)
            SELECT ids[m.project], m.seq, m.at, m.segment, m.run, m.place, m.json
            FROM unnest(m_projects, m_seqs, m_ats, m_segments, m_runs, m_places, m_jsons)
                AS m (project, seq, at, segment, run, place, json);
    END IF;
    RETURN NULL;
END $$;

-- Stores what steps wrote (kind 0), returned (1), or copy from another run (2), one after another, because each continues from the
-- one before.
CREATE OR REPLACE FUNCTION stepcast_keep_outputs(
    kinds smallint[], numbers bigint[], steps text[], attempts bigint[], streams smallint[], pieces bytea[], others bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    owner bigint;
    kept stepcast_outputs;
    begin_at bigint;
    weight bigint;
    owners bigint[] := '{}';
    weights bigint[] := '{}';
BEGIN
    FOR i IN 1 .. cardinality(kinds) LOOP
        SELECT project INTO owner FROM stepcast_runs WHERE number = numbers[i];
        CONTINUE WHEN NOT FOUND;
        IF kinds[i] = 2 THEN
            SELECT * INTO kept FROM stepcast_outputs WHERE run = others[i] AND step = steps[i];
            CONTINUE WHEN NOT FOUND;
            INSERT INTO stepcast_outputs (run, step, attempt, stdout, stderr, text, whole)
                VALUES (numbers[i], kept.step, 0, kept.stdout, kept.stderr, kept.text, kept.whole) RETURNING id INTO begin_at;
            INSERT INTO stepcast_pieces (output, stream, at, bytes)
                SELECT begin_at, p.stream, p.at, p.bytes FROM stepcast_pieces p WHERE p.output = kept.id;
            weight := kept.stdout + kept.stderr + kept.text + kept.whole;
        ELSE
            weight := 0;
            SELECT * INTO kept FROM stepcast_outputs WHERE run = numbers[i] AND step = steps[i];
            IF FOUND AND attempts[i] > kept.attempt THEN
                UPDATE stepcast_outputs SET run = NULL WHERE id = kept.id;
                weight := -(kept.stdout + kept.stderr + kept.text + kept.whole);
                kept := NULL;
            ELSIF FOUND AND attempts[i] < kept.attempt THEN
                CONTINUE;
            END IF;
            IF kept.id IS NULL THEN
                INSERT INTO stepcast_outputs (run, step, attempt) VALUES (numbers[i], steps[i], coalesce(attempts[i], 0))
                    RETURNING * INTO kept;
            END IF;
            weight := weight + octet_length(pieces[i]);
            IF kinds[i] = 1 THEN
                weight := weight - kept.whole;
                DELETE FROM stepcast_pieces WHERE output = kept.id AND stream = 3;
                INSERT INTO stepcast_pieces (output, stream, at, bytes)
                    SELECT kept.id, 3, part, substr(pieces[i], part + 1, 65536)
                    FROM generate_series(0, octet_length(pieces[i]) - 1, 65536) AS part;
                UPDATE stepcast_outputs SET whole = octet_length(pieces[i]) WHERE id = kept.id;
            ELSIF octet_length(pieces[i]) > 0 THEN
                begin_at := CASE streams[i] WHEN 0 THEN kept.stdout WHEN 1 THEN kept.stderr ELSE kept.text END;
                INSERT INTO stepcast_pieces (output, stream, at, bytes) VALUES (kept.id, streams[i], begin_at, pieces[i]);
                UPDATE stepcast_outputs SET
                    stdout = stdout + CASE WHEN streams[i] = 0 THEN octet_length(pieces[i]) ELSE 0 END,
                    stderr = stderr + CASE WHEN streams[i] = 1 THEN octet_length(pieces[i]) ELSE 0 END,
                    text = text + CASE WHEN streams[i] = 2 THEN octet_length(pieces[i]) ELSE 0 END
                WHERE id = kept.id;
            END IF;
        END IF;
        owners := owners || owner;
        weights := weights || weight;
    END LOOP;
    UPDATE stepcast_projects p SET run_bytes = p.run_bytes + g.weight
        FROM (SELECT o, sum(w) AS weight FROM unnest(owners, weights) AS all_of (o, w) GROUP BY o) g WHERE p.id = g.o;
END $$;

-- A key stays bound for `key_age`.
CREATE OR REPLACE FUNCTION stepcast_bind_keys(
    projects text[], key_names bytea[], ats bigint[], weights bigint[], fingerprints bytea[], answers bytea[], key_age bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    owner bigint;
    bound record;
BEGIN
    FOR i IN 1 .. cardinality(projects) LOOP
        LOOP
            SELECT id INTO owner FROM stepcast_projects WHERE name = projects[i];
            EXIT WHEN FOUND;
            INSERT INTO stepcast_projects (name, emptied_at) VALUES (projects[i], ats[i]) ON CONFLICT DO NOTHING;
        END LOOP;
        SELECT at, bytes INTO bound FROM stepcast_keys WHERE project = owner AND name = key_names[i] FOR UPDATE;
        IF FOUND AND ats[i] - bound.at <= key_age THEN
            RAISE EXCEPTION 'an idempotency key or run id is already in use' USING ERRCODE = 'SC003';
        END IF;
        INSERT INTO stepcast_keys (project, name, at, bytes, fingerprint, answer)
            VALUES (owner, key_names[i], ats[i], weights[i], fingerprints[i], answers[i])
            ON CONFLICT (project, name) DO UPDATE SET at = excluded.at, bytes = excluded.bytes,
                fingerprint = excluded.fingerprint, answer = excluded.answer;
        UPDATE stepcast_projects SET key_bytes = key_bytes + weights[i] - coalesce(bound.bytes, 0) WHERE id = owner;
    END LOOP;
END $$;

-- A ticket can be spent once: `DETAIL` has the indexes of those that were spent before.
CREATE OR REPLACE FUNCTION stepcast_note_tickets(untils bigint[], spents text[], notes bytea[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    before text := '';
BEGIN
    FOR i IN 1 .. cardinality(untils) LOOP
        INSERT INTO stepcast_tickets (until, spent, note) VALUES (untils[i], spents[i], notes[i])
            ON CONFLICT (spent) DO NOTHING;
        IF NOT FOUND THEN
            before := before || (i - 1) || ' ';
        END IF;
    END LOOP;
    IF before <> '' THEN
        RAISE EXCEPTION 'a ticket has already been used' USING ERRCODE = 'SC004', DETAIL = before;
    END IF;
END $$;

-- A message that an application has published is numbered once.
CREATE OR REPLACE FUNCTION stepcast_drain(ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    WITH waiting AS (DELETE FROM stepcast_outgoing WHERE id = ANY (ids) RETURNING 1) SELECT count(*) INTO gone FROM waiting;
    IF gone < cardinality(ids) THEN
        RAISE EXCEPTION 'another node has already numbered this entry' USING ERRCODE = 'SC003';
    END IF;
END $$;

-- Nodes.

-- Gives this node a duty that one node does for all, if no known node has it.
CREATE OR REPLACE FUNCTION stepcast_take_duties(me bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM stepcast_duties d JOIN stepcast_nodes n ON n.id = d.node) < 3 THEN
        INSERT INTO stepcast_duties (name, node) SELECT name, me FROM unnest('{drain,trim,webhooks}'::text[]) AS name
            ON CONFLICT DO NOTHING;
        UPDATE stepcast_duties SET node = me WHERE node NOT IN (SELECT id FROM stepcast_nodes);
    END IF;
END $$;

-- Takes over the runs and duties of nodes whose leases have ended. Returns the number of these nodes, and the projects of the runs.
-- First it raises their epochs, which waits for their current writes; only then it reads what they have written. If that would take
-- long, it is left for the next beat.
CREATE OR REPLACE FUNCTION stepcast_take_over(me bytea, wait_ms int, OUT dead bigint, OUT projects text[], OUT nodes bigint)
LANGUAGE plpgsql AS $$
DECLARE
    gone bytea[];
BEGIN
    PERFORM set_config('lock_timeout', wait_ms::text, true);
    -- No other node takes over from this node meanwhile, and it does not take over from itself.
    PERFORM FROM stepcast_nodes WHERE id = me AND until > clock_timestamp() FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this node has lost its lease' USING ERRCODE = 'SC001';
    END IF;
    gone := ARRAY(SELECT id FROM stepcast_nodes WHERE until < clock_timestamp() AND id <> me ORDER BY id FOR UPDATE SKIP LOCKED);
    dead := cardinality(gone);
    projects := '{}';
    IF dead > 0 THEN
        UPDATE stepcast_writers SET epoch = epoch + 1, gone_at = clock_timestamp() WHERE node = ANY (gone);
        DELETE FROM stepcast_writers WHERE gone_at < clock_timestamp() - interval '1 day';
        WITH moved AS (
            UPDATE stepcast_runs SET node = me WHERE node = ANY (gone) AND ended_at IS NULL RETURNING project)
        SELECT coalesce(array_agg(DISTINCT name), '{}') INTO projects
            FROM stepcast_projects WHERE id IN (SELECT project FROM moved);
        DELETE FROM stepcast_nodes WHERE id = ANY (gone);
    END IF;
    PERFORM stepcast_take_duties(me);
    SELECT count(*) INTO nodes FROM stepcast_nodes WHERE until >= clock_timestamp();
END $$;

-- Deleting.

-- Raises the floor of a project: messages below it are no longer part of its history. False if the floor was not the expected one.
CREATE OR REPLACE FUNCTION stepcast_raise_floor(p bigint, old_floor bigint, new_floor bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- If the engine crashes, this is lost and done again.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE stepcast_projects SET floor = new_floor WHERE id = p AND floor = old_floor;
    RETURN FOUND;
END $$;

-- Deletes the messages of segments below the floor, except those that are kept as long as their runs. Returns the deleted bytes;
-- null if this was done already. The project is locked only at the end, so appends continue while rows are deleted.
CREATE OR REPLACE FUNCTION stepcast_sweep(p bigint, old_swept bigint, new_swept bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    weight bigint;
    total bigint;
    gone bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- If the duty has just moved, two nodes may delete.
    PERFORM pg_advisory_xact_lock(1937007985, hashint8(p));
    PERFORM FROM stepcast_projects WHERE id = p AND swept = old_swept;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(sum(octet_length(json) + 96), 0), count(*) INTO weight, total
        FROM stepcast_messages WHERE project = p AND seq >= old_swept AND seq < new_swept;
    DELETE FROM stepcast_messages m WHERE m.project = p AND m.seq >= old_swept AND m.seq < new_swept AND NOT (
        m.place <> 0 AND m.run IS NOT NULL AND EXISTS (
            SELECT FROM stepcast_runs r WHERE r.number = m.run AND (m.place IN (1, 3) OR r.ended_at IS NULL)));
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM FROM stepcast_projects WHERE id = p AND swept = old_swept FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF gone < total THEN
        -- Messages of runs that have ended meanwhile: from now on the end of a run deletes its messages below `swept`.
        DELETE FROM stepcast_messages m USING stepcast_runs r WHERE m.project = p AND m.seq >= old_swept AND m.seq < new_swept
            AND m.place = 2 AND r.number = m.run AND r.ended_at IS NOT NULL;
    END IF;
    UPDATE stepcast_projects SET swept = new_swept, message_bytes = message_bytes - weight,
        floor_at = (SELECT at FROM stepcast_messages WHERE project = p AND seq = new_swept)
        WHERE id = p;
    RETURN weight;
END $$;

-- Deletes an ended run, except for its messages above the floor, which belong to its project. Returns the deleted bytes; null if
-- there is no such run.
CREATE OR REPLACE FUNCTION stepcast_drop_run(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    owner stepcast_projects;
    weight bigint;
    outputs bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- As in a sweep.
    PERFORM pg_advisory_xact_lock(1937007985, hashint8(project)) FROM stepcast_runs WHERE number = n;
    SELECT p.* INTO owner FROM stepcast_projects p WHERE id = (SELECT project FROM stepcast_runs WHERE number = n) FOR UPDATE;
    DELETE FROM stepcast_runs WHERE number = n AND ended_at IS NOT NULL RETURNING bytes INTO weight;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    DELETE FROM stepcast_documents WHERE run = n;
    DELETE FROM stepcast_states WHERE run = n;
    DELETE FROM stepcast_items WHERE run = n;
    DELETE FROM stepcast_messages WHERE run = n AND seq < owner.swept;
    WITH gone AS (UPDATE stepcast_outputs SET run = NULL WHERE run = n RETURNING stdout + stderr + text + whole AS bytes)
        SELECT coalesce(sum(bytes), 0) INTO outputs FROM gone;
    UPDATE stepcast_projects SET ended_runs = ended_runs - 1, run_bytes = run_bytes - weight - outputs WHERE id = owner.id;
    RETURN weight + outputs;
END $$;

-- Notes which of these projects have become empty. Returns their names, including those noted before. Other nodes learn it by the
-- revision.
CREATE OR REPLACE FUNCTION stepcast_note_empty(ids bigint[], now bigint) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM stepcast_projects WHERE id = ANY (ids) ORDER BY name FOR UPDATE;
    UPDATE stepcast_projects p SET emptied_at = now, revision = p.revision + 1
        WHERE p.id = ANY (ids) AND p.floor_at IS NULL AND p.emptied_at IS NULL
            AND NOT EXISTS (SELECT FROM stepcast_runs r WHERE r.project = p.id);
    RETURN QUERY SELECT p.name FROM stepcast_projects p WHERE p.id = ANY (ids) AND p.emptied_at IS NOT NULL;
END $$;

-- Deletes keys that were used before a time. Returns how many.
CREATE OR REPLACE FUNCTION stepcast_drop_keys(before bigint, slice bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    owners bigint[];
    weights bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM stepcast_keys WHERE at < before) THEN
        RETURN 0;
    END IF;
    -- Projects are locked before keys, as when keys are bound.
    owners := ARRAY(SELECT DISTINCT project FROM (SELECT project FROM stepcast_keys WHERE at < before ORDER BY at LIMIT slice) old);
    PERFORM FROM stepcast_projects WHERE id = ANY (owners) ORDER BY name FOR UPDATE;
    WITH old AS (
            SELECT project, name FROM stepcast_keys WHERE at < before AND project = ANY (owners) ORDER BY at LIMIT slice),
        gone AS (DELETE FROM stepcast_keys k USING old WHERE k.project = old.project AND k.name = old.name AND k.at < before
            RETURNING k.project, k.bytes)
        SELECT array_agg(project), array_agg(bytes) INTO owners, weights FROM gone;
    UPDATE stepcast_projects p SET key_bytes = p.key_bytes - g.weight
        FROM (SELECT o, sum(w) AS weight FROM unnest(owners, weights) AS all_of (o, w) GROUP BY o) g WHERE p.id = g.o;
    RETURN coalesce(cardinality(owners), 0);
END $$;
