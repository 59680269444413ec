"""Records what real Celery puts on the wire, for the codec's tests.

    eval "$(scripts/services env)"
    "$(scripts/python-env)" tests/python/record_golden.py

Writes `tests/golden/messages/NAME.json`, the raw AMQP message as {"properties", "headers", "body_base64"}, and
`tests/golden/results/NAME.json`, the raw Redis document as {"key", "document"}. Messages are published to a queue that
nobody consumes and read back without Celery; documents are caught as the worker publishes them. Only what tells about
the recording machine is replaced: the host name by `vm`, and paths in tracebacks.
"""

import base64
import datetime
import decimal
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import uuid

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
os.environ["CELERY_BROKER_URL"] = os.environ["TASKQ_TEST_AMQP_URL"]
os.environ["CELERY_RESULT_BACKEND"] = os.environ["TASKQ_TEST_REDIS_URL"]

import amqp  # noqa: E402
import redis  # noqa: E402
from celery import chain, chord  # noqa: E402

from proj import add, app, echo  # noqa: E402

SHELF = "golden-shelf"
WORK = "golden-work"
EXTENDED = "golden-extended"
PATIENCE = 30


def anonymous(text):
    text = re.sub("@" + re.escape(socket.gethostname()) + r"\b", "@vm", text)
    for folder, name in ((sys.prefix, "/venv"), (str(HERE), "/app"), (sys.base_prefix, "/python")):
        text = text.replace(folder, name)
    return text


def write(kind, name, sample):
    path = GOLDEN / kind / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sample, indent=2, ensure_ascii=False) + "\n")
    print(f"{kind}/{name}")


class Shelf:
    """Reads messages back raw, with py-amqp alone, so that nothing of Celery or kombu decodes them on the way."""

    def __init__(self):
        url = urllib.parse.urlparse(os.environ["TASKQ_TEST_AMQP_URL"])
        self.connection = amqp.Connection(
            host=f"{url.hostname}:{url.port}", userid=url.username, password=url.password, virtual_host="/"
        )
        self.connection.connect()
        self.channel = self.connection.channel()
        self.channel.auto_decode = False
        for queue in (SHELF, WORK, EXTENDED):
            self.channel.queue_declare(queue, durable=True, auto_delete=False)
            self.channel.queue_purge(queue)

    def take(self, queue=SHELF):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self.channel.basic_get(queue, no_ack=True)
            if message is not None:
                return message
            time.sleep(0.05)
        raise SystemExit(f"no message arrived in {queue}")

    def record(self, name, queue=SHELF, retries=0):
        message = self.take(queue)
        # A worker that goes may leave the first message of a retried task behind as well.
        while message.headers["retries"] != retries:
            message = self.take(queue)
        properties = dict(message.properties)
        headers = json.loads(anonymous(json.dumps(properties.pop("application_headers"))))
        body = base64.b64encode(message.body).decode()
        write("messages", name, {"properties": properties, "headers": headers, "body_base64": body})


def record_messages(shelf):
    def call(name, task="proj.add", args=(), kwargs=None, **options):
        app.send_task(task, args, kwargs or {}, queue=SHELF, **options)
        shelf.record(name)

    call("plain", args=(2, 3))
    call("kwargs", kwargs={"x": 2, "y": 3})
    call(
        "all_options",
        args=(2,),
        kwargs={"y": 3},
        countdown=30,
        expires=60,
        priority=5,
        time_limit=20,
        soft_time_limit=10,
        headers={"x-tenant": "t1"},
        shadow="shadowed",
        ignore_result=True,
    )
    call("unicode", "proj.echo", ("grüße 🦀", 'quote " and \\ and \n'), {"schlüssel": "wert"})
    call("nan", "proj.echo", (float("nan"), float("inf"), float("-inf"), 0.1, 1e300))
    call("bigint", "proj.echo", (2**31, 2**63, 2**64 - 1, -(2**63), 2**100))
    moment = datetime.datetime(2025, 1, 2, 3, 4, 5, 678901)
    call(
        "typed_values",
        "proj.echo",
        kwargs={
            "datetime": moment.replace(tzinfo=datetime.timezone.utc),
            "datetime_naive": moment,
            "datetime_offset": moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
            "date": moment.date(),
            "time": datetime.time(1, 2, 3),
            "uuid": uuid.UUID(int=5),
            "decimal": decimal.Decimal("1.50"),
            "bytes": b"hi",
            "bytes_not_utf8": b"\xff\xfe",
            "tuple": (1, "two", None, True),
        },
    )
    call("msgpack", "proj.echo", (1, -1, "grüße", None, True, 1.5, [1, 2]), {"k": {"n": 1}}, serializer="msgpack")
    call("gzip", "proj.echo", ("compress me " * 50,), compression="gzip")

    on_shelf = {"queue": SHELF}
    add.apply_async((2, 3), link=echo.s(10), link_error=echo.s(), **on_shelf)
    shelf.record("link_and_link_error")
    chain(add.s(1, 2), add.s(3), add.s(4)).apply_async(**on_shelf)
    shelf.record("chain")
    chord([add.s(1, 1).set(**on_shelf), add.s(2, 2).set(**on_shelf)], app=app)(echo.s("done").set(**on_shelf))
    shelf.record("chord_member_0")
    shelf.record("chord_member_1")


class Results:
    """Catches result documents as they are published; the same bytes are stored under the key."""

    def __init__(self):
        self.updates = redis.from_url(os.environ["TASKQ_TEST_REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
        self.updates.psubscribe("celery-task-meta-*")

    def record(self, name, pending, status, skip=0):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self.updates.get_message(timeout=1)
            if message is None or message["channel"].decode() != f"celery-task-meta-{pending.id}":
                continue
            if json.loads(message["data"])["status"] != status:
                continue
            if skip:
                skip -= 1
                continue
            write("results", name, {"key": message["channel"].decode(), "document": anonymous(message["data"].decode())})
            return
        raise SystemExit(f"{name}: the worker stored no {status}")


class Worker:
    """A Celery worker on one queue. When it ends, messages it holds for their eta go back to the queue."""

    def __init__(self, queue, **environment):
        self.command = [sys.executable, "-m", "celery", "-A", "proj", "worker", "--pool", "solo", "-n", "w1@%h", "-Q", queue]
        self.command += ["--without-gossip", "--without-mingle", "--loglevel", "critical"]
        self.environment = os.environ | environment | {"PYTHONDONTWRITEBYTECODE": "1"}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, cwd=HERE, env=self.environment, stdout=subprocess.DEVNULL)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)


def record_results(shelf):
    results = Results()

    def call(task, args=(), kwargs=None, queue=WORK, **options):
        return app.send_task(task, args, kwargs or {}, queue=queue, **options)

    with Worker(WORK, PROJ_TRACK_STARTED="1"):
        pending = call("proj.add", (2, 3))
        results.record("started", pending, "STARTED")
        results.record("success", pending, "SUCCESS")
        results.record("failure", call("proj.boom", ("boom",)), "FAILURE")
        results.record("progress", call("proj.slow_progress", (3,)), "PROGRESS", skip=1)
        results.record("not_registered", call("proj.unknown"), "FAILURE")
        # Held for its eta and expired by then: without the eta the broker would drop the message, and nobody would
        # write a result.
        results.record("revoked_expired", call("proj.add", (1, 1), countdown=3, expires=1), "REVOKED")
        # Far away, so that the retry is still waiting when the worker goes.
        retried = call("proj.retry_once", kwargs={"countdown": 3600}, headers={"x-tenant": "t1"})
        results.record("retry", retried, "RETRY")
    shelf.record("retry", WORK, retries=1)

    with Worker(EXTENDED, PROJ_RESULT_EXTENDED="1"):
        results.record("success_extended", call("proj.add", (2,), {"y": 3}, queue=EXTENDED), "SUCCESS")


def main():
    shelf = Shelf()
    record_messages(shelf)
    record_results(shelf)
    for queue in (SHELF, WORK, EXTENDED):
        shelf.channel.queue_delete(queue)
        shelf.channel.exchange_delete(queue)


if __name__ == "__main__":
    main()
