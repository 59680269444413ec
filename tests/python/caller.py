"""Calls one task through real Celery and prints what came of it as one line of JSON.

The request is a JSON object, given as the only argument or on standard input:

    {"task": "shop.add", "args": [2, 3], "kwargs": {}, "queue": "shop", "options": {"priority": 5},
     "timeout": 20, "collect_states": true}

Only `task` is needed. `options` are those of Celery's `apply_async`. The answer:

    {"task_id": ..., "status": "SUCCESS", "result": 5, "states": [...]}
    {"task_id": ..., "status": "FAILURE", "exc_type": ..., "exc_message": ..., "exc_module": ..., "exc_args": [...]}
    {"task_id": ..., "status": "TIMEOUT"}

`states` holds every distinct state Celery's own callback saw, in order, as {"status", "result"}. With a `timeout` of 0
the task is only sent, and the status is "SENT".
"""

import json
import sys

from celery.exceptions import TimeoutError as ResultTimeout
from kombu import Queue

from proj import app


def existing_queue(name):
    """A queue to publish to as it is.

    By itself Celery declares the queue it publishes to, classic and without arguments, which the broker refuses if the
    queue exists with others. `no_declare` leaves its making to whoever consumes it.
    """
    return Queue(name, routing_key=name, no_declare=True)


def send(request):
    options = dict(request.get("options") or {})
    if request.get("queue"):
        options["queue"] = existing_queue(request["queue"])
    return app.send_task(request["task"], request.get("args") or [], request.get("kwargs") or {}, **options)


def wait(pending, timeout, collect_states):
    states = []

    def on_message(meta):
        state = {"status": meta["status"], "result": meta.get("result")}
        if meta.get("task_id") == pending.id and state not in states:
            states.append(state)

    answer = {"task_id": pending.id}
    try:
        value = pending.get(timeout=timeout, propagate=False, on_message=on_message)
    except ResultTimeout:
        answer["status"] = "TIMEOUT"
    else:
        answer["status"] = pending.status
        if isinstance(value, BaseException):
            answer["exc_type"] = type(value).__name__
            answer["exc_message"] = str(value)
            answer["exc_module"] = type(value).__module__
            answer["exc_args"] = list(value.args)
        else:
            answer["result"] = value
    if collect_states:
        answer["states"] = states
    return answer


def main():
    request = json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read())
    pending = send(request)
    timeout = request.get("timeout", 20)
    if timeout == 0:
        answer = {"task_id": pending.id, "status": "SENT"}
    else:
        answer = wait(pending, timeout, request.get("collect_states", False))
    # Nothing is waited for any more; left to the interpreter's end, Celery would still try to unsubscribe.
    app.backend.remove_pending_result(pending)
    # Exceptions and other objects that JSON has no word for are shown as Python shows them.
    print(json.dumps(answer, default=repr))


if __name__ == "__main__":
    main()
