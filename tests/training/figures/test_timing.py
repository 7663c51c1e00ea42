from training.figures.timing import medians


class Clock:
    """Tells the time that the calls have taken."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def pass_in(self, name: str, *times: float) -> None:
        self.order.append(name)
        self.now += times[(self.order.count(name) - 1) % len(times)]


def test_the_median_of_each_is_told_whatever_its_slowest_call_took() -> None:
    clock = Clock()
    calls = {
        "steady": lambda: clock.pass_in("steady", 0.01),
        "jumpy": lambda: clock.pass_in("jumpy", 0.02, 0.02, 0.02, 5.0),
    }
    found = medians(calls, rounds=8, seconds=0.05, clock=clock)
    assert round(found["steady"], 6) == 0.01
    assert round(found["jumpy"], 6) == 0.02


def test_they_take_turns_and_each_turn_holds_at_least_one_call() -> None:
    clock = Clock()
    calls = {name: lambda name=name: clock.pass_in(name, 1.0) for name in ("a", "b")}
    medians(calls, rounds=2, seconds=0.05, clock=clock)
    assert clock.order == ["a", "b", "a", "b", "b", "a"]  # the first of each warms up; then the order turns about
