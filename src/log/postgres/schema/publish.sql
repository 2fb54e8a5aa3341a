-- For applications: publishes a message in the application's own transaction. Others see the message once that transaction is
-- committed, and never if it is not. Callers need only the right to execute this function.
CREATE OR REPLACE FUNCTION stepcast_publish(project text, type text, payload text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    IF project IS NULL OR project !~ '^[A-Za-z0-9._:-]{1,128}$' THEN
        RAISE EXCEPTION 'stepcast_publish: % is not a valid project id: expected 1 to 128 characters out of A-Z a-z 0-9 . _ : -', quote_nullable(project)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF type IS NULL OR type !~ '^[a-z0-9_.-]{1,64}$' THEN
        RAISE EXCEPTION 'stepcast_publish: % is not a valid message type: expected 1 to 64 characters out of a-z 0-9 _ . -', quote_nullable(type)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF type ~ '^(workflow_|stream_|connected)' THEN
        RAISE EXCEPTION 'stepcast_publish: the message type % is reserved for the server', quote_literal(type)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF octet_length(payload) > {payload_max} THEN
        RAISE EXCEPTION 'stepcast_publish: the payload is too large: % bytes (limit {payload_max})', octet_length(payload)
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    IF payload IS NULL OR json_typeof(payload::json) <> 'object' THEN
        RAISE EXCEPTION 'stepcast_publish: the payload is not a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- In JSON these occur only between tokens; a message is one line.
    INSERT INTO stepcast_outgoing (project, type, payload)
        VALUES (stepcast_publish.project, stepcast_publish.type, trim(translate(stepcast_publish.payload, E'\n\r\t', '   ')));
    PERFORM pg_notify('{channel}', '0000000000000000 +');
END $$;

CREATE OR REPLACE FUNCTION stepcast_publish(project text, type text, payload json) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    PERFORM stepcast_publish(project, type, payload::text);
END $$;

CREATE OR REPLACE FUNCTION stepcast_publish(project text, type text, payload jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    PERFORM stepcast_publish(project, type, payload::text);
END $$;

REVOKE EXECUTE ON FUNCTION stepcast_publish(text, text, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION stepcast_publish(text, text, json) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION stepcast_publish(text, text, jsonb) FROM PUBLIC;
