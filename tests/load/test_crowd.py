"""A small crowd on one server: every answer is the one that a visitor alone gets. `run.py` is the whole measurement."""

from crowd import SERVER, addresses, alone, wave
from serving import running_app

VISITORS, SECONDS = 6, 4.0


def test_a_crowd_sees_what_one_sees() -> None:
    rounds = [addresses(number)[2 + number % 2 :][:1] for number in range(VISITORS)]  # half of them steer
    with running_app(**SERVER) as url:
        expected = alone(url, rounds)
        assert all(seen.n >= 3 and not seen.said for seen in expected.values())
        assert len({seen.data for seen in expected.values()}) == len(expected)
        crowd = wave(url, rounds, expected, SECONDS)
    assert crowd.said == []
    assert crowd.wrong == []
    assert crowd.opened >= VISITORS
