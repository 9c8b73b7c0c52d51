"""Random sequences of Pub/Sub calls, made to the local cloud and to Google's emulator, which has to agree.

Where they do not, `KNOWN` says why; a line of it that explains nothing is an error as well. Pushes are
compared by what they look like.

No acknowledgement deadline ends during a sequence: what is published reaches `READERS` only, which have a
minute. Everything else that subscriptions have is tried on others, of a topic that nobody publishes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dev.conformance import peers
from dev.conformance.differential import Answer, Comparison, Known
from dev.conformance.pubsub_side import ERROR, HELD, Call, PubsubSide
from dev.conformance.receiver import Receiver
from dev.conformance.server import Cloud
from localcloud.services.pubsub.broker import Broker
from localcloud.store import Json

TOPICS = ("news", "quiet", "later")
READERS = ("reader", "second", "third")
QUIET = ("idle", "pushed")
BAD = ("ab", "1st", "goog1", "a b c", "x" * 256)
MINUTE = {"ackDeadlineSeconds": 60}
DEFAULT_TTL = {"ttl": "2678400s"}
NOWHERE = "http://127.0.0.1:9/"

Row = Known[Call]


def refused(ours: Answer, theirs: Answer, status: int = 400) -> bool:
    """Only the local cloud says no."""
    return ours.status == status != theirs.status


def asks(call: Call, field: str, *values: object) -> bool:
    return call.verb == "create" and call.body.get(field) in values


def masked(call: Call) -> set[str]:
    """What a change is to change, without the parts of fields."""
    mask = call.body.get("updateMask", "") if call.verb in ("patch", "patchTopic") else ""
    return {path.partition(".")[0] for path in mask.split(",")}


KNOWN: tuple[Row, ...] = (
    Row(
        "Google shows the state of a subscription",
        lambda call, ours, theirs: ours.parts.get("state") == "ACTIVE" and "state" not in theirs.parts,
        frozenset({"state"}),
    ),
    Row(
        "Google lets an unused subscription expire after 31 days unless it is told otherwise",
        lambda call, ours, theirs: (
            ours.parts.get("expirationPolicy") == DEFAULT_TTL and "expirationPolicy" not in theirs.parts
        ),
        frozenset({"expirationPolicy"}),
    ),
    Row(
        "Google wants at least a day before a subscription expires; the emulator has no bound",
        lambda call, ours, theirs: asks(call, "expirationPolicy", {"ttl": "3600s"}) and refused(ours, theirs),
        parted=True,
    ),
    Row(
        "Google takes no deadline of less than 10 s; the emulator does",
        lambda call, ours, theirs: asks(call, "ackDeadlineSeconds", 1, 9) and refused(ours, theirs),
        parted=True,
    ),
    Row(
        "Google takes no deadline of less than 10 s in a change either",
        lambda call, ours, theirs: (
            call.verb == "patch"
            and call.body["subscription"].get("ackDeadlineSeconds") == 9
            and refused(ours, theirs)
        ),
        parted=True,
    ),
    Row(
        "Google keeps messages for up to 31 days; the emulator for 7",
        lambda call, ours, theirs: (
            asks(call, "messageRetentionDuration", "2678400s") and (ours.status, theirs.status) == (200, 400)
        ),
        parted=True,
    ),
    Row(
        "Ordered delivery and filters are not offered here, which is better said than ignored",
        lambda call, ours, theirs: (
            (asks(call, "enableMessageOrdering", True) or asks(call, "filter", "attributes.a"))
            and refused(ours, theirs)
        ),
        parted=True,
    ),
    Row(
        "Google's update masks may name labels, expirationPolicy and parts of fields; the emulator's may not",
        lambda call, ours, theirs: (
            bool(masked(call) & {"labels", "expirationPolicy", "retryPolicy"})
            and (ours.status, theirs.status) == (200, 400)
        ),
        parted=True,
    ),
    Row(
        "To Google's JSON a number is no text",
        lambda call, ours, theirs: (
            call.verb == "publish"
            and {"attributes": {"n": 1}} in call.body["messages"]
            and refused(ours, theirs)
        ),
        parted=True,
    ),
    Row(
        "Google wants a positive maxMessages; the emulator takes a negative one",
        lambda call, ours, theirs: (
            call.verb == "pull" and call.body.get("maxMessages") == -1 and refused(ours, theirs)
        ),
    ),
    Row(
        "Google lets nobody pull from a push subscription",
        lambda call, ours, theirs: (
            call.verb == "pull" and ours.parts == {ERROR: "FAILED_PRECONDITION"} and refused(ours, theirs)
        ),
    ),
    Row(
        "Google grants at most 600 s in one modifyAckDeadline; the emulator has no bound",
        lambda call, ours, theirs: (
            call.verb == "modifyAckDeadline"
            and call.body["ackDeadlineSeconds"] == 601
            and refused(ours, theirs)
        ),
    ),
    Row(
        "Google knows no subscriptions of a missing topic; the emulator lists none",
        lambda call, ours, theirs: call.verb == "readers" and refused(ours, theirs, 404),
    ),
    Row(
        "Google refuses a page token that it did not give out; the emulator starts where it would stand",
        lambda call, ours, theirs: ("pageToken", "%") in call.query and refused(ours, theirs),
    ),
)


def calls() -> st.SearchStrategy[list[Call]]:
    others = st.one_of(*_on_topics(), *_on_subscriptions(), _pulls()).map(lambda call: (call,))
    messages = st.one_of(_handlings(), _publications().map(lambda call: (call,)))
    steps = st.lists(st.one_of(messages, others), min_size=8, max_size=20)
    return steps.map(lambda several: [call for step in several for call in step])


def every() -> Iterator[Call]:
    """Each of the bodies once, which chance might not choose."""
    for number, body in enumerate((*SETTINGS, *({"pushConfig": push} for push in PUSHES))):
        yield _creation(f"every{number}", "quiet", body)
    for change in CHANGES:
        yield from (_change("idle", change), Call("get", "idle"))
    for push in PUSHES:
        body = {"pushConfig": push}
        yield from (Call("modifyPushConfig", "pushed", body), Call("get", "pushed"), _pull("pushed", 1))
    for message in (*MESSAGES, *SPOILT):
        yield from (Call("publish", "news", {"messages": [message]}), _pull("reader", 100))
    for seconds in DEADLINES:
        yield from _handling("reader", 1, "modifyAckDeadline", "last", "second", seconds)
    for held in HELD:
        yield from _handling("second", 1, "acknowledge", held, "reader", 0)
    yield from (_pull("second", most) for most in MOST)


TOPIC_MASKS = ("labels", "", "name", "labelz", None)


def _on_topics() -> Iterator[st.SearchStrategy[Call]]:
    names = st.sampled_from((*TOPICS, *BAD))
    yield st.builds(Call, st.just("topic"), names)
    # The topic that has the messages stays for longer than the others.
    yield st.builds(Call, st.just("dropTopic"), st.sampled_from(("later",) * 6 + ("news", "missing", BAD[0])))
    bodies = st.sampled_from(({}, {"labels": {"a": "b"}}, {"labels": {}}, {"labelz": {}}, {"kmsKeyName": ""}))
    yield st.builds(Call, st.just("createTopic"), st.sampled_from(("later", *TOPICS, *BAD)), bodies)
    yield st.builds(_topic_change, names, st.sampled_from(({}, {"k": "v"})), st.sampled_from(TOPIC_MASKS))
    sizes = st.sampled_from(((), (("pageSize", "1"),), (("pageSize", "2"),)))
    yield st.builds(Call, st.just("readers"), st.sampled_from((*TOPICS, "missing")), query=sizes)
    lists = st.sampled_from(("topics", "list"))
    yield st.builds(Call, lists, query=sizes | st.just((("pageToken", "%"),)))


def _topic_change(name: str, labels: dict[str, str], mask: str | None) -> Call:
    return Call("patchTopic", name, {"topic": {"labels": labels}} | _mask(mask))


def _mask(mask: str | None) -> Json:
    return {} if mask is None else {"updateMask": mask}


#: What subscriptions are made with where no message gets.
SETTINGS: tuple[Json, ...] = (
    *({}, MINUTE, {"filter": ""}, {"labels": {"a": "b"}}, {"labels": {}}, {"what": 1}),
    *({"ackDeadlineSeconds": number} for number in (-1, 0, 1, 9, 10, 600, 601, "60", "x", 1.5)),
    *({"retryPolicy": {"minimumBackoff": value}} for value in ("0s", "0.5s", "-1s", "601s", "1")),
    *({"retryPolicy": {"maximumBackoff": value}} for value in ("20s", "1s", "600.5s")),
    *({"retryPolicy": value} for value in ({}, {"minimumBackoff": "30s", "maximumBackoff": "20s"})),
    *({"messageRetentionDuration": value} for value in ("600s", "600.250s", "599s", "2678400s", "2678401s")),
    *({"expirationPolicy": value} for value in ({}, {"ttl": "86400s"}, {"ttl": "3600s"})),
    *({"enableMessageOrdering": value} for value in (False, True)),
    {"filter": "attributes.a"},
)
PUSHES: tuple[Json, ...] = (
    {},
    {"pushEndpoint": ""},
    {"pushEndpoint": NOWHERE},
    {"pushEndpoint": NOWHERE, "attributes": {"x-goog-version": "v1"}},
    {"pushEndpoint": NOWHERE, "oidcToken": {"serviceAccountEmail": "a@b.c", "audience": ""}},
    {"pushEndpoint": NOWHERE, "pubsubWrapper": {}},
    {"pushEndpoint": "nowhere"},
    {"pushEndpoint": "ftp://127.0.0.1/"},
    {"endpoint": NOWHERE},
)


def _on_subscriptions() -> Iterator[st.SearchStrategy[Call]]:
    names = st.sampled_from((*READERS, *QUIET * 2, "missing", *BAD))
    yield st.builds(Call, st.sampled_from(("get", "get", "drop")), names)
    topics = st.sampled_from(("news", "news", "later", "missing", *BAD[:2]))
    yield st.builds(_creation, st.sampled_from(READERS), topics, st.just(MINUTE))
    names = st.sampled_from((*QUIET, *(f"quiet{number}" for number in range(20)), BAD[0]))
    topics = st.sampled_from((*("quiet",) * 12, "missing", BAD[0], None))
    yield st.builds(_creation, names, topics, st.sampled_from(SETTINGS))
    pushes = st.sampled_from(PUSHES).map(lambda push: {"pushConfig": push})
    yield st.builds(_creation, names, topics, pushes)
    names = st.sampled_from((*QUIET * 4, "missing", BAD[0]))
    yield st.builds(_change, names, st.sampled_from(CHANGES))
    yield st.builds(Call, st.just("modifyPushConfig"), names, pushes | st.just({}))


def _creation(name: str, topic: str | None, body: Json) -> Call:
    return Call("create", name, body | ({} if topic is None else {"topic": topic}))


def _change(name: str, change: tuple[Json, str | None]) -> Call:
    return Call("patch", name, {"subscription": change[0]} | _mask(change[1]))


#: What is changed, and the masks that go with it.
CHANGES: tuple[tuple[Json, str | None], ...] = (
    ({"ackDeadlineSeconds": 20}, "ackDeadlineSeconds"),
    ({"ackDeadlineSeconds": 30}, "ack_deadline_seconds"),
    ({"ackDeadlineSeconds": 9}, "ackDeadlineSeconds"),
    ({"ackDeadlineSeconds": 601}, "ackDeadlineSeconds"),
    ({"ackDeadlineSeconds": 601}, "pushConfig"),
    ({"ackDeadlineSeconds": 20}, "ackDeadlineSeconds,what"),
    ({"ackDeadlineSeconds": 20}, None),
    ({"ackDeadlineSeconds": 20}, ""),
    ({"what": 20}, "what"),
    ({}, "ackDeadlineSeconds"),
    ({}, "name"),
    ({}, "topic"),
    ({}, "state"),
    ({"labels": {"k": "v"}}, "labels"),
    ({"labels": {"k": "w", "l": "x"}}, "labels.l"),
    ({"expirationPolicy": {}}, "expirationPolicy"),
    ({"messageRetentionDuration": "700s"}, "messageRetentionDuration"),
    ({"messageRetentionDuration": "1s"}, "messageRetentionDuration"),
    ({"retryPolicy": {"minimumBackoff": "2s"}}, "retryPolicy"),
    ({"retryPolicy": {"minimumBackoff": "601s"}}, "retryPolicy"),
    ({"retryPolicy": {"maximumBackoff": "30s"}}, "retryPolicy.maximumBackoff"),
    ({}, "retryPolicy"),
    ({"pushConfig": {"pushEndpoint": NOWHERE}, "ackDeadlineSeconds": 40}, "pushConfig,ackDeadlineSeconds"),
    ({"pushConfig": {"pushEndpoint": "nowhere"}}, "pushConfig"),
    ({}, "pushConfig"),
)


#: Publishing one or several of these; the last ones spoil the request.
MESSAGES: tuple[Json, ...] = (
    *({"data": text} for text in ("aGk=", "aGk", "_-8", "AAECAw==")),
    *({"attributes": each} for each in ({"a": "b"}, {"a": "", "b": "ü"})),
    {"data": "aGk=", "attributes": {"a": "b"}, "orderingKey": "k"},
    {"data": "", "attributes": {"a": "b"}, "orderingKey": ""},
    {"data": "aGk=", "messageId": "7", "publishTime": "2020-01-01T00:00:00Z"},
)
SPOILT: tuple[Json, ...] = (
    {},
    *({"data": value} for value in ("", "!", "a", "aGk=\n", 7)),
    *({"attributes": {}}, {"orderingKey": "k"}, {"data": "aGk=", "what": 1}, {"attributes": {"n": 1}}),
)


def _publications() -> st.SearchStrategy[Call]:
    good = st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=3)
    spoilt = st.builds(lambda bad, rest: [bad, *rest], st.sampled_from(SPOILT), st.just([]) | good)
    bodies = st.one_of(good, good, spoilt, st.just([])).map(lambda messages: {"messages": messages})
    topics = st.sampled_from((*("news",) * 12, "later", "later", "missing", *BAD[:2]))
    return st.builds(Call, st.just("publish"), topics, bodies)


def _pulls() -> st.SearchStrategy[Call]:
    names = st.sampled_from((*READERS, *QUIET * 3, "missing", BAD[0]))
    return st.builds(_pull, names, st.sampled_from(MOST))


def _pull(name: str, most: Any) -> Call:
    body = {"returnImmediately": True}
    return Call("pull", name, body if most is None else body | {"maxMessages": most})


def _handlings() -> st.SearchStrategy[tuple[Call, ...]]:
    """A pull, and what becomes of the messages."""
    names = st.sampled_from((*READERS[:1] * 12, *READERS[1:] * 2, "missing", BAD[0]))
    verbs = st.sampled_from(("acknowledge", "modifyAckDeadline", "modifyAckDeadline"))
    seconds = st.sampled_from((0,) * 6 + DEADLINES)
    held, others = st.sampled_from((*HELD[:3] * 3, *HELD)), st.sampled_from(READERS)
    return st.builds(_handling, names, st.sampled_from((1, 2, 3, 100)), verbs, held, others, seconds)


def _handling(name: str, most: int, verb: str, held: str, other: str, seconds: int) -> tuple[Call, ...]:
    body = {"ackDeadlineSeconds": seconds} if verb == "modifyAckDeadline" else {}
    return _pull(name, most), Call(verb, name, body, held=held, other=other)


#: How many messages are asked for, and for how long.
MOST = (1, 100, 1001, "2", 0, -1, None, "x")
DEADLINES = (0, 60, 600, 601, -1)
#: Two topics with two readers each, and some messages.
OPENING = (
    *(Call("createTopic", name, {}) for name in ("news", "quiet")),
    *(Call("create", name, {"topic": "news"} | MINUTE) for name in READERS[:2]),
    *(Call("create", name, {"topic": "quiet"}) for name in QUIET),
    Call("publish", "news", {"messages": [{"data": "MA=="}, {"data": "MQ=="}, {"attributes": {"a": "2"}}]}),
)


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    try:
        peers.pubsub_jar()
    except peers.AbsentError as error:
        pytest.skip(str(error))
    with peers.pubsub() as url:
        yield url


@pytest.fixture
def comparison(cloud: Cloud, other: str) -> Iterator[Comparison[Call]]:
    # After a body that it cannot read, the emulator answers nothing more on the same connection.
    once = {"connection": "close"}
    with (
        httpx.Client(base_url=cloud.url, timeout=30) as ours,
        httpx.Client(base_url=other, timeout=30, headers=once) as theirs,
    ):
        yield Comparison(PubsubSide(ours), PubsubSide(theirs), KNOWN, OPENING)


def test_both_answer_alike_but_for_what_is_known(comparison: Comparison[Call]) -> None:
    @settings(max_examples=120, deadline=None, derandomize=True, phases=[Phase.generate, Phase.shrink])
    @given(calls())
    def agree(sequence: list[Call]) -> None:
        found = comparison.differences(sequence)
        assert not found, "\n".join(found)

    assert comparison.differences(every()) == []
    agree()
    assert comparison.never_met() == [], "these lines of the table explain nothing any more"
    assert comparison.calls > 2500


def test_a_wrong_status_is_found(comparison: Comparison[Call], cloud: Cloud) -> None:
    with cloud.fault(kind="call", method="POST", path=".*/subscriptions/pushed:pull", code=503, count=0):
        found = comparison.differences(every())
    assert found
    assert all("verb='pull', name='pushed'" in each and "status differ" in each for each in found)


def test_a_message_too_many_is_found(comparison: Comparison[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    def give_back(self: Broker, name: str, ack_ids: list[str]) -> None:
        self.modify_deadline(name, ack_ids, 0)

    monkeypatch.setattr(Broker, "acknowledge", give_back)
    found = comparison.differences(every())
    assert found
    assert all("verb='pull', name='second'" in each and "received differ" in each for each in found)


def shape(value: Any) -> Any:
    """What JSON looks like: its keys and the types of their values."""
    return {key: shape(each) for key, each in value.items()} if isinstance(value, dict) else type(value)


def let_push(url: str, receiver: Receiver, *messages: Json) -> None:
    """Have the messages pushed, each after the one before was accepted; the first push of all fails."""
    receiver.statuses = [500]
    name = f"/v1/projects/push{receiver.server.server_port}"
    subscription = {"topic": f"{name[4:]}/topics/pushed", "pushConfig": {"pushEndpoint": receiver.url}}
    with httpx.Client(base_url=url + name) as server:
        server.put("/topics/pushed", json={}).raise_for_status()
        server.put("/subscriptions/pushed", json=subscription).raise_for_status()
        for number, message in enumerate(messages, 2):
            server.post("/topics/pushed:publish", json={"messages": [message]}).raise_for_status()
            receiver.wait_for(number)


def test_pushes_look_alike_and_come_again_after_a_500(cloud: Cloud, other: str, receiver: Receiver) -> None:
    messages = ({"data": "aGk=", "attributes": {"a": "b"}}, {"data": "aGk="})
    with Receiver() as others:
        let_push(cloud.url, receiver, *messages)
        let_push(other, others, *messages)
        assert receiver.types == others.types == ["application/json"] * 3
        for bodies in (receiver.bodies, others.bodies):
            first, again, next_one = [each["message"]["messageId"] for each in bodies]
            assert first == again != next_one
        assert [shape(each) for each in receiver.bodies[:2]] == [shape(each) for each in others.bodies[:2]]
        # Google's JSON leaves out what is empty; the emulator writes it out.
        assert others.bodies[2]["message"].pop("attributes") == {}
        assert shape(receiver.bodies[2]) == shape(others.bodies[2])
