import numpy as np
import pytest

from handlers.contract import Array
from tests.support.documents import document
from training.recipe import Split
from training.statistics.criteria import Criterion
from training.statistics.decisive import Scoring
from training.statistics.evaluate import evaluate
from training.statistics.intervals import blocks_of_time, bootstrap, wilson

LABELS = ("a", "b", "c")
CLASSES, VALUES = Scoring("classification", LABELS), Scoring("regression")


def votes(classes: Array) -> Array:
    return np.eye(3, dtype=np.float32)[classes]


def noisy(rows: int, seed: int = 0) -> tuple[Array, Array]:
    """Probabilities of three classes that lean to the truth, and the truth."""
    random = np.random.default_rng(seed)
    target = random.integers(3, size=rows)
    output = random.dirichlet([1, 1, 1], rows) + 0.4 * votes(target)
    return (output / output.sum(1, keepdims=True)).astype(np.float32), target


def test_an_interval_of_accuracy_is_that_of_the_binomial() -> None:
    target = np.zeros(1000, np.int64)
    output = votes(np.repeat([0, 1], [800, 200]))  # 80 % are right
    low, high = bootstrap(CLASSES, output, target, {}).intervals["accuracy"]
    error = 1.96 * (0.8 * 0.2 / 1000) ** 0.5
    assert low == pytest.approx(0.8 - error, abs=0.004)
    assert high == pytest.approx(0.8 + error, abs=0.004)


@pytest.fixture(scope="module")
def intervals() -> list[dict[str, tuple[float, float]]]:
    """Of every metric, in twenty samples of 300 rows."""
    return [bootstrap(CLASSES, *noisy(300, seed), {}).intervals for seed in range(1, 21)]


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1", "auc"])
def test_an_interval_of_a_classification_holds_most_metrics_of_fresh_rows(
    metric: str, intervals: list[dict[str, tuple[float, float]]]
) -> None:
    output, target = noisy(20_000)
    truth = document(evaluate(CLASSES, Split({}, target), output, {}))["metrics"][metric]
    inside = sum(low <= truth <= high for low, high in (sample[metric] for sample in intervals))
    assert 16 <= inside <= 20


def test_the_metrics_lie_in_their_intervals_which_are_not_wide() -> None:
    output, target = noisy(2000)
    evaluation = document(evaluate(CLASSES, Split({}, target), output, {}))
    for name, value in evaluation["metrics"].items():
        low, high = evaluation["intervals"][name]
        assert low < value < high
        assert high - low < 0.06


def test_an_interval_of_rmse_is_that_of_the_theory() -> None:
    error = np.random.default_rng(0).normal(0, 2, 4000)
    target = np.linspace(0, 100, 4000)
    found = bootstrap(VALUES, target + error, target, {}).intervals
    half = 1.96 * 2 / (2 * 4000) ** 0.5
    rmse = float(np.sqrt((error**2).mean()))
    assert found["rmse"] == pytest.approx((rmse - half, rmse + half), abs=0.01)
    assert found["mae"][0] < float(np.abs(error).mean()) < found["mae"][1]
    assert 0.99 < found["r2"][0] < found["r2"][1] < 1


def test_the_same_rows_give_the_same_intervals() -> None:
    first, second = (bootstrap(CLASSES, *noisy(50), {}) for _ in range(2))
    assert first == second


def test_a_gain_compares_on_the_same_rows_and_is_above_zero_where_the_model_is_better() -> None:
    target = np.zeros(1000, np.int64)
    model, worse = votes(np.repeat([0, 1], [800, 200])), votes(np.repeat([0, 1], [780, 220]))
    gains = bootstrap(CLASSES, model, target, {"worse": worse, "same": model}).gains
    assert gains["worse"].value == pytest.approx(0.02)
    _, low, high = gains["worse"]
    assert 0 < low < 0.02 < high  # 20 of 20 rows in which they differ; unpaired, the interval would hold 0
    assert gains["same"] == (0.0, 0.0, 0.0)


def test_a_gain_in_rmse_is_how_much_smaller_it_is() -> None:
    target = np.arange(100.0)
    gains = bootstrap(VALUES, target + 1, target, {"worse": target - 3, "better": target}).gains
    assert gains["worse"] == pytest.approx((2.0, 2.0, 2.0))
    assert gains["better"].value == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("by", "sign"),
    [
        (Criterion("cost", costs=((0.0, 1.0, 1.0), (9.0, 0.0, 1.0), (9.0, 1.0, 0.0))), -1),
        (Criterion("recall_at_precision", "b", 0.9), 1),
        (Criterion("auc", "c"), 1),
    ],
)
def test_what_decides_has_an_interval_and_the_gains_are_in_it(by: Criterion, sign: int) -> None:
    output, target = noisy(400)
    scoring = Scoring("classification", LABELS, by)
    always = votes(np.zeros(400, np.int64))
    found = bootstrap(scoring, output, target, {"always a": always, "same": output})
    low, high = found.intervals[by.name]
    assert low < scoring.value(output, target) < high
    gain = found.gains["always a"]
    assert gain.value == pytest.approx(sign * (scoring.value(output, target) - scoring.value(always, target)))
    assert 0 < gain.low < gain.value < gain.high
    assert found.gains["same"] == (0.0, 0.0, 0.0)


def test_no_cost_at_all_is_no_share() -> None:
    target = np.repeat([0, 1, 2], 10)
    scoring = Scoring("classification", LABELS, Criterion("cost", costs=((0.0, 1.0, 1.0),) * 3))
    nothing = Scoring("classification", LABELS, Criterion("cost", costs=((0.0,) * 3,) * 3))
    assert bootstrap(nothing, votes(target), target, {}).intervals["cost"] == (0.0, 0.0)
    assert bootstrap(scoring, votes(target), target, {}).intervals["cost"][0] > 0.3


def test_a_metric_of_the_recipes_own_has_an_interval() -> None:
    output, target = noisy(200)
    scoring = Scoring("classification", LABELS, own=lambda output, target: {"sure": float(output.max(1).mean())})
    found = bootstrap(scoring, output, target, {})
    low, high = found.intervals["sure"]
    assert low < float(output.max(1).mean()) < high


def test_rows_of_one_class_have_no_auc_and_still_the_rest() -> None:
    found = bootstrap(CLASSES, votes(np.array([0, 1, 0])), np.zeros(3, np.int64), {}).intervals
    assert "auc" not in found
    assert found["accuracy"] == (0.0, 1.0)


def test_all_answers_right_are_as_sure_as_wilson_says() -> None:
    target = np.repeat([0, 1, 2], [100, 99, 1])
    found = bootstrap(CLASSES, votes(target), target, {}).intervals
    assert found["accuracy"] == pytest.approx((0.98116, 1), abs=1e-4)
    assert found["recall"][0] < 0.75  # of the third class there is one row
    assert found["auc"][0] < 1
    low, high = wilson(np.array([0.5, 1.0]), np.array([10, 0]))
    assert low == pytest.approx([0.2366, 0], abs=1e-4)  # Brown, Cai and DasGupta 2001
    assert high == pytest.approx([0.7634, 1], abs=1e-4)


def test_rows_of_a_day_that_err_alike_are_one_mishap() -> None:
    chance = np.random.default_rng(0)
    days = np.repeat(np.arange(12), 500)
    target = np.zeros(len(days))
    output = np.exp(chance.normal(size=12) / 2)[days] * chance.normal(size=len(days))  # some days are windy
    times = days * 86_400 + np.tile(np.linspace(0, 80_000, 500), 12)
    alone = bootstrap(VALUES, output, target, {}).intervals["rmse"]
    blocks = bootstrap(VALUES, output, target, {}, times=times).intervals["rmse"]
    assert blocks[1] - blocks[0] > 5 * (alone[1] - alone[0])


def test_blocks_are_days_or_tenths_of_less_time_and_hold_every_row_once() -> None:
    times = np.random.default_rng(0).permutation(30 * 86_400)[:1000]
    assert len(blocks_of_time(times)) == 30
    minutes = np.arange(600.0)
    assert [len(one) for one in blocks_of_time(minutes)] == [60] * 10
    assert sorted(np.concatenate(blocks_of_time(times)).tolist()) == list(range(1000))
    assert len(blocks_of_time(np.zeros(5))) == 1
