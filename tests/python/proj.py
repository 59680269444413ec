"""A real Celery application: the other side of the interoperability tests.

Run as `celery -A proj worker`, imported by `caller.py` and `record_golden.py`. Everything that differs between runs
comes from the environment, so that one file serves a client, a worker and the recorder.
"""

import datetime
import decimal
import os
import time
import uuid

from celery import Celery

app = Celery("proj")
app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL"),
    result_backend=os.environ.get("CELERY_RESULT_BACKEND"),
    task_default_queue=os.environ.get("PROJ_QUEUE", "celery"),
    task_serializer="json",
    result_serializer=os.environ.get("PROJ_RESULT_SERIALIZER", "json"),
    accept_content=["json", "msgpack"],
    task_track_started=os.environ.get("PROJ_TRACK_STARTED") == "1",
    result_extended=os.environ.get("PROJ_RESULT_EXTENDED") == "1",
    # A wrong broker URL is an error at once, not a worker that tries for ever.
    broker_connection_retry_on_startup=False,
)


@app.task(name="proj.add")
def add(x, y):
    return x + y


@app.task(name="proj.boom")
def boom(msg):
    raise ValueError(msg, 42)


@app.task(name="proj.slow_progress", bind=True)
def slow_progress(self, total):
    for current in range(total):
        self.update_state(state="PROGRESS", meta={"current": current, "total": total})
        time.sleep(0.05)
    return total


@app.task(name="proj.echo")
def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


@app.task(name="proj.typed")
def typed():
    """A value of each type that JSON has no form for, and numbers at the edge."""
    return {
        "moment": datetime.datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc),
        "local": datetime.datetime(2025, 1, 2, 3, 4, 5),
        "day": datetime.date(2025, 1, 2),
        "time": datetime.time(3, 4, 5),
        "uuid": uuid.UUID(int=5),
        "decimal": decimal.Decimal("1.50"),
        "text": "gr\u00fc\u00dfe".encode(),
        "bytes": b"\xff\x00",
        "big": 2**100,
        "float": 985.6906946328695,
    }


@app.task(name="proj.packed")
def packed():
    """What MessagePack has a form for."""
    return {"bytes": b"\xff\x00", "float": 985.6906946328695, "keys": {1: "one"}}


@app.task(name="proj.kinds")
def kinds(*values):
    """The types of its arguments, and their values as Python shows them."""
    return [[type(value).__name__, str(value)] for value in values]


@app.task(name="proj.not_a_number")
def not_a_number():
    return [1.5, float("nan")]


@app.task(name="proj.sleepy")
def sleepy(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="proj.retry_once", bind=True)
def retry_once(self, countdown=1):
    """Fails the first time; the second run, `countdown` seconds later, returns how often it was retried."""
    if self.request.retries == 0:
        raise self.retry(exc=RuntimeError("try 0"), countdown=countdown)
    return self.request.retries
