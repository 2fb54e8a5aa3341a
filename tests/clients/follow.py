"""python follow.py CLIENT URL: follows URL with that client, as it is, and prints a line of JSON for all that it tells."""
import json
import sys
import time

import httpx
import httpx_sse
import requests
import requests_sse
import sseclient

# Where the server names no time to come back after. No test names this one.
RETRY_MS = 3000


def say(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)


class Over(Exception):
    """The server has no more: 204."""


def headers(last_id):
    return {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}


def asked(url, last_id):
    response = requests.get(url, stream=True, headers=headers(last_id))
    response.raise_for_status()
    if response.status_code == 204:
        raise Over
    return response


def by_sseclient_py(url, last_id):
    for event in sseclient.SSEClient(asked(url, last_id)).events():
        yield event.id, event.event, event.data, event.retry


def by_httpx_sse(url, last_id):
    with httpx.Client(timeout=None) as client:
        with httpx_sse.connect_sse(client, "GET", url, headers=headers(last_id)) as source:
            source.response.raise_for_status()
            if source.response.status_code == 204:
                raise Over
            for event in source.iter_sse():
                yield event.id, event.event, event.data, event.retry


def by_iter_lines(url, last_id):
    """What a script does that has requests and nothing else."""
    response, fields = asked(url, last_id), {}
    response.encoding = "utf-8"
    for line in response.iter_lines(decode_unicode=True):
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id"), "message", fields["data"], fields.get("retry")
            fields = {}


def again_and_again(connect, url):
    """These clients read one connection; coming back is left to who uses them: after `retry`, from the last id."""
    last_id, retry_ms = None, RETRY_MS
    while True:
        try:
            for event_id, kind, data, retry in connect(url, last_id):
                last_id = event_id or last_id
                retry_ms = retry_ms if retry is None else int(retry)
                say("event", id=last_id, type=kind, data=data)
            say("over", clean=True)
        except Over:
            return say("end", status=204)
        except (requests.RequestException, httpx.TransportError) as error:
            say("over", clean=False, error=repr(error))
        time.sleep(retry_ms / 1000)


def by_requests_sse(url):
    """Comes back by itself."""
    with requests_sse.EventSource(url, on_error=lambda: say("over")) as source:
        for event in source:
            say("event", id=event.last_event_id, type=event.type, data=event.data)


def sleep(seconds, really=time.sleep):
    say("wait", ms=round(seconds * 1000))
    really(seconds)


def main(client, url):
    time.sleep = sleep
    try:
        if client == "requests-sse":
            by_requests_sse(url)
        else:
            connect = {"sseclient-py": by_sseclient_py, "httpx-sse": by_httpx_sse, "requests": by_iter_lines}[client]
            again_and_again(connect, url)
    except requests_sse.InvalidStatusCodeError as error:
        say("end", status=error.status_code)
    except requests.HTTPError as error:
        say("end", status=error.response.status_code)


main(*sys.argv[1:])
