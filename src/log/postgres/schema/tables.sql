-- The tables of version 2. All are in one schema, the first of the search path, and their names begin with `stepcast_`, so that they
-- can share it with an application. Times are milliseconds since 1970, of the clock by which history ages, which is the engine's,
-- unless a comment says otherwise. Names are sorted by their bytes.

-- One row. The servers derive their keys from `master_key`; `instance` names the store in message ids.
CREATE TABLE stepcast_cluster (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    version int NOT NULL,
    master_key bytea NOT NULL,
    instance text NOT NULL
);

-- The nodes. `until`: the end of the lease.
CREATE TABLE stepcast_nodes (
    id bytea PRIMARY KEY,
    version int NOT NULL,
    until timestamptz NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The writer of each node. It is separate from `stepcast_nodes`, so that a beat and an append do not wait for each other. `batch` is
-- the number of the last append if it is stored, else 0, `probe` that of the last probe. `epoch` is raised whenever the connection
-- that appends may be outdated.
CREATE TABLE stepcast_writers (
    node bytea PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 1,
    batch bigint NOT NULL DEFAULT 0,
    probe bigint NOT NULL DEFAULT 0,
    gone_at timestamptz
) WITH (fillfactor = 50);

-- Duties that one node has for all.
CREATE TABLE stepcast_duties (name text PRIMARY KEY, node bytea NOT NULL);

-- `newest` never decreases. `floor` is the `seq` from which on the history is continuous, `swept` the first `seq` of the first
-- segment: older messages are kept for their runs. `floor_at` is when the message at the floor was stored, null if there is none.
-- The last segment begins with `tail_first` and `tail_first_at` and weighs `tail_bytes`. `message_bytes` is the weight of segments,
-- `run_bytes` that of runs. `emptied_at`: since when the project is empty. `last_activity` is of the wall clock.
CREATE TABLE stepcast_projects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    newest bigint NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 0,
    floor bigint NOT NULL DEFAULT 1,
    swept bigint NOT NULL DEFAULT 1,
    floor_at bigint,
    newest_at bigint NOT NULL DEFAULT 0,
    tail_first bigint NOT NULL DEFAULT 0,
    tail_first_at bigint NOT NULL DEFAULT 0,
    tail_bytes bigint NOT NULL DEFAULT 0,
    last_activity bigint NOT NULL DEFAULT 0,
    ended_runs bigint NOT NULL DEFAULT 0,
    message_bytes bigint NOT NULL DEFAULT 0,
    run_bytes bigint NOT NULL DEFAULT 0,
    key_bytes bigint NOT NULL DEFAULT 0,
    emptied_at bigint
) WITH (fillfactor = 50);
CREATE INDEX stepcast_projects_by_age ON stepcast_projects (floor_at) WHERE floor_at IS NOT NULL;
CREATE INDEX stepcast_projects_emptied ON stepcast_projects (emptied_at) WHERE emptied_at IS NOT NULL;

-- `segment` is the `seq` of the first message of its segment. `place`: 0 middle, 1 first, 2 turn, 3 last.
CREATE TABLE stepcast_messages (
    project bigint NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    segment bigint NOT NULL,
    run bigint,
    place smallint NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (project, seq)
);
CREATE INDEX stepcast_messages_of_run ON stepcast_messages (run, seq) WHERE run IS NOT NULL;

-- `node` runs it while it has not ended. `created_at` is of the wall clock. `status`: 0 completed, 1 failed, 2 cancelled.
CREATE TABLE stepcast_runs (
    number bigint PRIMARY KEY,
    project bigint NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    node bytea NOT NULL,
    created_at bigint NOT NULL,
    ended_at bigint,
    first_seq bigint,
    last_seq bigint,
    status smallint,
    cancelled boolean NOT NULL DEFAULT false,
    bytes bigint NOT NULL,
    fingerprint bytea NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX stepcast_runs_by_id ON stepcast_runs (project, run_id);
CREATE INDEX stepcast_runs_of_project ON stepcast_runs (project, number);
CREATE INDEX stepcast_runs_ended_as ON stepcast_runs (project, status, number) WHERE status IS NOT NULL;
CREATE INDEX stepcast_runs_open ON stepcast_runs (node, number) WHERE ended_at IS NULL;
CREATE INDEX stepcast_runs_by_end ON stepcast_runs (ended_at, number) WHERE ended_at IS NOT NULL;

-- The large values of a run are separate from those that change.
CREATE TABLE stepcast_documents (run bigint PRIMARY KEY, document bytea NOT NULL, answer bytea NOT NULL);
CREATE TABLE stepcast_states (run bigint PRIMARY KEY, summary bytea NOT NULL, state bytea NOT NULL);

-- The newest attempt of a step, and the length of each of its streams. An output without a run was dropped; its pieces are deleted
-- little by little.
CREATE TABLE stepcast_outputs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run bigint,
    step text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    stdout bigint NOT NULL DEFAULT 0,
    stderr bigint NOT NULL DEFAULT 0,
    text bigint NOT NULL DEFAULT 0,
    whole bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX stepcast_outputs_of_run ON stepcast_outputs (run, step) WHERE run IS NOT NULL;
CREATE INDEX stepcast_outputs_let_go ON stepcast_outputs (id) WHERE run IS NULL;
-- `at` is the offset of a piece in its stream: 0 stdout, 1 stderr, 2 text, 3 the whole of what the step returned.
CREATE TABLE stepcast_pieces (
    output bigint NOT NULL,
    stream smallint NOT NULL,
    at bigint NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (output, stream, at)
);

CREATE TABLE stepcast_items (
    run bigint NOT NULL,
    step text COLLATE "C" NOT NULL,
    item bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (run, step, item)
);

-- Answers to calls that may be repeated.
CREATE TABLE stepcast_keys (
    project bigint NOT NULL,
    name bytea NOT NULL,
    at bigint NOT NULL,
    bytes bigint NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea NOT NULL,
    PRIMARY KEY (project, name)
);
CREATE INDEX stepcast_keys_by_age ON stepcast_keys (at);

-- Times are of the wall clock. `spent` names the ticket that a note marks as spent.
CREATE TABLE stepcast_tickets (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    until bigint NOT NULL,
    spent text COLLATE "C" UNIQUE,
    note bytea NOT NULL
);
CREATE INDEX stepcast_tickets_by_end ON stepcast_tickets (until);

-- Times are of the wall clock. `notable`: 0 completed, 1 failed, 2 cancelled, 3 a step waits. Numbers are never used again.
CREATE TABLE stepcast_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook text COLLATE "C" NOT NULL,
    next_at bigint NOT NULL,
    attempts bigint NOT NULL DEFAULT 0,
    project text NOT NULL,
    run bigint NOT NULL,
    run_id text NOT NULL,
    seq bigint NOT NULL,
    notable smallint NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX stepcast_outbox_of_webhook ON stepcast_outbox (webhook, id);
CREATE INDEX stepcast_outbox_by_time ON stepcast_outbox (webhook, next_at, id);

-- Times are of the wall clock. `weight` is the weight of the plan.
CREATE TABLE stepcast_plans (
    project text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    tag text NOT NULL,
    updated_at bigint NOT NULL,
    summary bytea NOT NULL,
    schedule bytea,
    scheduled_at bigint NOT NULL,
    firings bytea NOT NULL,
    last_run text,
    document_bytes bigint NOT NULL,
    weight bigint NOT NULL,
    PRIMARY KEY (project, name)
);
CREATE INDEX stepcast_plans_scheduled ON stepcast_plans (project, name) WHERE schedule IS NOT NULL;
CREATE TABLE stepcast_plan_documents (
    project text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    document bytea NOT NULL,
    PRIMARY KEY (project, name)
);

-- Wishes for runs of other nodes, in order, and their answers.
CREATE TABLE stepcast_wishes (
    number bigint GENERATED ALWAYS AS IDENTITY,
    id bytea PRIMARY KEY,
    project text NOT NULL,
    run_id text NOT NULL,
    run bigint NOT NULL,
    wish bytea NOT NULL,
    answer bytea,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX stepcast_wishes_open ON stepcast_wishes (run, number) WHERE answer IS NULL;
CREATE INDEX stepcast_wishes_by_age ON stepcast_wishes (made_at);

-- Messages that applications have published in their own transactions, until a node has numbered them.
CREATE TABLE stepcast_outgoing (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    type text NOT NULL,
    payload text NOT NULL
);
