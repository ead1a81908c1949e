"""A small web application with the stock Redis client, as any team might have one.

It listens on :8000, talks to the Redis at $REDIS_URL and answers in JSON:

    GET  /get?key=                         {"key", "value"}   value is null if there is none
    POST /set?key=&value=[&ex=SECONDS]     {"ok"}
    GET  /incr?key=                        {"key", "value"}
    GET  /del?key=                         {"key", "deleted"}
    GET  /poll?key=&value=[&timeout_ms=]   {"seen", "elapsed_ms", "reads"}   reads until it sees the value
    GET  /healthz                          {"ok"}   does not ask Redis

An error of Redis is a 502 with {"error"}; a poll that runs out of time a 504.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import redis

PORT = 8000
# Between two reads of a poll.
PAUSE_MS = 2

# One client for all threads: it keeps a pool of connections.
client = redis.Redis.from_url(
    os.environ.get("REDIS_URL", "redis://localhost:6379"),
    client_name="demo-python",
    decode_responses=True,
)


def get(key):
    return 200, {"key": key, "value": client.get(key)}


def set_(key, value, ex=None):
    return 200, {"ok": bool(client.set(key, value, ex=ex and int(ex)))}


def incr(key):
    return 200, {"key": key, "value": client.incr(key)}


def delete(key):
    return 200, {"key": key, "deleted": client.delete(key)}


def poll(key, value, timeout_ms="5000"):
    started = time.monotonic()
    deadline = started + int(timeout_ms) / 1000
    reads = 0
    while True:
        reads += 1
        seen = client.get(key) == value
        now = time.monotonic()
        if seen or now >= deadline:
            elapsed_ms = round((now - started) * 1000, 3)
            return 200 if seen else 504, {"seen": seen, "elapsed_ms": elapsed_ms, "reads": reads}
        # Readers that never rest would take the processors from what they wait for.
        time.sleep(PAUSE_MS / 1000)


def healthz():
    return 200, {"ok": True}


ROUTES = {
    ("GET", "/get"): get,
    ("POST", "/set"): set_,
    ("GET", "/incr"): incr,
    ("GET", "/del"): delete,
    ("GET", "/poll"): poll,
    ("GET", "/healthz"): healthz,
}


def answer(method, target):
    url = urlsplit(target)
    route = ROUTES.get((method, url.path))
    if route is None:
        return 404, {"error": f"no such route: {method} {url.path}"}
    try:
        return route(**dict(parse_qsl(url.query, keep_blank_values=True)))
    except redis.RedisError as error:
        return 502, {"error": str(error)}
    except (TypeError, ValueError) as error:
        return 400, {"error": str(error)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    disable_nagle_algorithm = True  # headers and body are two writes

    def handle_any(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = answer(self.command, self.path)
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = handle_any

    def log_request(self, code="-", size="-"):
        pass  # errors are still logged


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"demo-python listens on :{PORT}")
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
