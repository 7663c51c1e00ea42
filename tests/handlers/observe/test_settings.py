"""The reader of all settings, and those of workers."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from msgspec import Meta, field

from handlers.observe.settings import SECRET, CaptureSettings, EnvironmentSettings, WorkerSettings, variables


class Kitchen(EnvironmentSettings, frozen=True, rename=variables("KITCHEN_")):
    """One of every kind."""

    root: ClassVar[Path] = Path("/house")
    light: Annotated[bool, Meta(description="Whether one sees.")] = True
    plates: Annotated[int, Meta(ge=1, le=12)] = 6
    heat: Annotated[float, Meta(gt=0, lt=300, title="a heat under 300")] = 180
    pan: Path | None = None
    meal: Literal["soup", "bread"] = "soup"
    guests: int | None = None
    cook: Annotated[str, Meta(examples=["Ada"])] = field(default="", name="COOK")
    recipe: Annotated[str, Meta(extra_json_schema=SECRET)] = ""


def test_without_variables_and_with_empty_ones_the_defaults_hold() -> None:
    assert Kitchen.from_environment({}) == Kitchen()
    assert Kitchen.from_environment(dict.fromkeys(Kitchen().to_environment(), "")) == Kitchen()


def test_every_kind_of_field_is_read_and_written_back() -> None:
    kitchen = Kitchen(False, 12, 0.1, Path("/pans/1"), "bread", 3, "Ada", "salt")
    assert kitchen.to_environment() == {
        "MARLOOP_KITCHEN_LIGHT": "off",
        "MARLOOP_KITCHEN_PLATES": "12",
        "MARLOOP_KITCHEN_HEAT": "0.1",
        "MARLOOP_KITCHEN_PAN": "/pans/1",
        "MARLOOP_KITCHEN_MEAL": "bread",
        "MARLOOP_KITCHEN_GUESTS": "3",
        "COOK": "Ada",
        "MARLOOP_KITCHEN_RECIPE": "salt",
    }
    assert Kitchen.from_environment(kitchen.to_environment()) == kitchen


def test_a_secret_is_read_from_its_file_and_only_a_secret_is(tmp_path: Path) -> None:
    file = tmp_path / "recipe"
    file.write_text("salt\n")
    environ = {"MARLOOP_KITCHEN_RECIPE_FILE": str(file), "COOK_FILE": str(file)}
    assert Kitchen.from_environment(environ) == Kitchen(recipe="salt")
    assert f"{file}" not in str(Kitchen.from_environment(environ).to_environment())


@pytest.mark.parametrize(
    ("content", "others", "fault"),
    [
        (b"", {}, "which is empty"),
        (b" \n", {}, "which is empty"),
        (b"\xff\xfe", {}, "which is no text"),
        (None, {}, "which cannot be read: No such file or directory"),
        (b"salt", {"MARLOOP_KITCHEN_RECIPE": "pepper"}, "are both set"),
    ],
)
def test_a_file_that_holds_no_secret_is_told_and_a_secret_never_is(
    tmp_path: Path, content: bytes | None, others: dict[str, str], fault: str
) -> None:
    file = tmp_path / "recipe"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=f"MARLOOP_KITCHEN_RECIPE_FILE.*{fault}") as caught:
        Kitchen.from_environment({"MARLOOP_KITCHEN_RECIPE_FILE": str(file), **others})
    assert "salt" not in str(caught.value)
    assert "pepper" not in str(caught.value)


def test_a_relative_path_starts_at_the_root_of_its_struct() -> None:
    assert Kitchen.from_environment({"MARLOOP_KITCHEN_PAN": "pan"}).pan == Path("/house/pan")


@pytest.mark.parametrize(
    ("name", "text", "accepted"),
    [
        *[("LIGHT", text, "on or off") for text in ("yes", "1", "true", "On")],
        *[("PLATES", text, "a whole number from 1 to 12") for text in ("0", "13", "2.0", " 2", "1e1", "-1", "²")],
        *[("HEAT", text, "a heat under 300") for text in ("0", "nan", "inf", "hot", "300")],
        ("MEAL", "cake", "bread or soup"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_what_it_must_be(name: str, text: str, accepted: str) -> None:
    variable = f"MARLOOP_KITCHEN_{name}"
    with pytest.raises(ValueError, match=f"^{variable} is '{text}'; it must be {accepted}$"):
        Kitchen.from_environment({variable: text})


def test_a_struct_tells_what_its_documentation_is_made_of() -> None:
    settings = Kitchen.settings()
    assert list(settings) == ["light", "plates", "heat", "pan", "meal", "guests", "cook", "recipe"]
    light, plates, pan, cook = (settings[name] for name in ("light", "plates", "pan", "cook"))
    assert (light.variable, light.default, light.description) == ("MARLOOP_KITCHEN_LIGHT", True, "Whether one sees.")
    assert (plates.accepted, plates.lowest, light.lowest) == ("a whole number from 1 to 12", 1, None)
    assert (pan.accepted, cook.variable, cook.example) == ("path", "COOK", "Ada")


@pytest.mark.parametrize("text", ["some", "-1", "1.5", "nan"])
def test_a_log_sample_that_is_no_share_is_an_error_with_the_variable(text: str) -> None:
    with pytest.raises(ValueError, match=f"MARLOOP_LOG_SAMPLE is '{text}'; it must be a share from 0 to 1"):
        WorkerSettings.from_environment({"MARLOOP_LOG_SAMPLE": text})


def test_a_worker_captures_where_a_sink_is_named_and_then_every_row_up_to_a_rate() -> None:
    urls = ("", "off", "http://sink/events")
    assert [WorkerSettings(capture_url=url).captures for url in urls] == [False, False, True]
    assert CaptureSettings.from_environment({}) == CaptureSettings(1, 100)
