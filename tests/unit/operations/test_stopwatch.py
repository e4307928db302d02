"""What an operation took, by what it told."""

from xenqemu.operations import stopwatch
from xenqemu.operations.events import Event, Kind, Phase, Way


def test_the_time_that_a_guest_stands_still(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    seen = []
    watch = stopwatch.Stopwatch(seen.append)
    story = [
        (10.0, Event(Phase.SAVE, Kind.STARTED)),
        (12.0, Event(Phase.QUIESCE, Kind.STARTED)),
        (12.5, Event(Phase.QUIESCE, Kind.DONE)),
        (13.0, Event(Phase.RELEASE, Kind.STARTED)),
        (13.5, Event(Phase.RELEASE, Kind.DONE)),
        (20.0, Event(Phase.PUBLISH, Kind.DONE)),
    ]
    for now[0], event in story:
        watch(event)
    assert watch.downtime == 1.5
    assert watch.seconds == 20.0
    assert seen == [event for _, event in story]


def test_the_memory_of_all_iterations():
    watch = stopwatch.Stopwatch(lambda _event: None)
    for done, total in ((0, 32), (16, 32), (32, 32), (4, 8), (8, 8), (1, 1)):
        watch(Event(Phase.SAVE, Kind.PROGRESS, done, total))
    watch(Event(Phase.VERIFY, Kind.PROGRESS, 100, 100))
    assert watch.size == 32 + 8 + 1


def test_the_downtime_that_a_device_model_tells():
    watch = stopwatch.Stopwatch(lambda _event: None)
    watch(Event(Phase.SAVE, Kind.LIVE, way=Way.MOMENT, downtime=0.02))
    assert (watch.downtime, watch.way) == (0.02, Way.MOMENT)
