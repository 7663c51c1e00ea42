"""A folder of transformers becomes an archive that answers as transformers does."""

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from handlers.engine import load_engine
from handlers.formats.pictures import decode_image
from handlers.formats.text import TRUNCATED
from handlers.handler import ModelHandler
from handlers.message import JSON, Request
from serving import archive
from serving.registry import Registry
from tests.support.training import huggingface
from tests.support.training.huggingface import POSITIONS, save, transformers
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.files.huggingface.folder import Config, Folder
from training.bring.files.huggingface.processing import processing_of
from training.bring.graph import BringError
from training.bring.importing import bring
from training.bring.sources import Reading
from training.packaging.contents import codec_of

CLASSIFIER = "ForSequenceClassification"
ODD = [
    *huggingface.TEXTS,
    *("", " ", "\n\t", "\u200b", "\u200b\u200d", "\u00a0", "\u3000", "\x00", "\x01\x02", "\x7f", "\ufeff", "\u2060"),
    *("a", "?", "...", "!?" * 40, "你好", "これは 映画", "영화", "😀", "👨‍👩‍👧‍👦 👍🏽", "🇩🇪🇫🇷", "e\u0301 é"),
    *("ﬁ ﬂ ½ Å Å", "\u202e"),
    *("هذا فيلم جيد", "שלום עולם", "abc שלום 123", "\u202eabc\u202c film", "Ünïcödé ÇĞİŞ ß ẞ", "İstanbul", "ǅ ǆ"),
    *("[SEP]", "[CLS] film [MASK]", "<s> film </s> <pad>", "<mask>", "[PAD][PAD] film", "##film", "▁film", "Ġfilm"),
    *("film " * 200, "a" * 5_000, "film" * 100, " film" + " " * 300 + "bad", "x " * 1_000, "😀" * 500, "bad " * 31),
    *("a fine film\nit drags\r\non", "tab\tbetween", "A FINE FILM", "film.film,film", "1234567890", "//a.b/c?d=e"),
    *("<b>film</b>", '{"text": "film"}', "\ud7ff\ue000\uffff", "\U0010ffff", "𝔣𝔦𝔩𝔪", "the year. what a cast"),
]  # fmt: skip


class Served:
    """An archive of a folder, opened as a worker opens it."""

    def __init__(self, source: Path, folder: Path, reading: Reading = Reading(), **options: Any) -> None:  # noqa: B008
        given = ImportOptions(name="model", example=reading.example, data=reading.data, **options)
        self.draft = draft(sources.read(source, reading), given)
        self.result = bring(self.draft, Registry(folder / "store"))
        unpacked = folder / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        archive.unpack(self.result.archive, unpacked)
        self.contract = self.result.contract
        codec = codec_of(archive.entry_point(self.result.archive)).open(unpacked, self.contract, 1024)
        engine = load_engine("onnxruntime", unpacked, self.contract, 1)
        self.handler = ModelHandler(self.contract, engine, codec)
        self.handler.check_example()

    def ask(self, *bodies: Any) -> list[tuple[int, Any]]:
        """Answer requests that came together."""
        headers = {"content-type": JSON, "x-top-k": str(self.contract.most_classes)}
        responses = self.handler.handle([Request(msgspec.json.encode(body), headers, id="r") for body in bodies])
        return [(response.status, msgspec.json.decode(response.body)) for response in responses]

    def scores(self, *texts: str) -> list[Any]:
        """Answer texts that came together, as numbers in the contract's order; None for those that are refused."""
        answers = self.ask(*({"text": text} for text in texts))
        return [None if status == 400 else self._numbers(answer["prediction"]) for status, answer in answers]

    def _numbers(self, prediction: Any) -> Any:
        if self.contract.labels:
            shares = {each["label"]: each["probability"] for each in prediction["top_k"]}
            return [shares[label] for label in self.contract.labels]
        if self.contract.task == "regression":
            return [prediction]
        several = len(self.contract.outputs) > 1
        return [prediction[spec.name] for spec in self.contract.outputs] if several else prediction


def pipeline(folder: Path) -> Any:
    """The folder's own pipeline, which reads marks in a text as a worker does."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    return transformers.pipeline("text-classification", model=str(folder), tokenizer=tokenizer)


def expected(pipe: Any, text: str) -> list[float]:
    """The pipeline's answer in the order of the labels."""
    answers = pipe(text, top_k=None, truncation=True, max_length=POSITIONS)
    shares = {each["label"]: each["score"] for each in answers}
    return [shares[label] for label in pipe.model.config.id2label.values()]


def test_there_are_many_odd_texts() -> None:
    assert len(set(ODD)) >= 50


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta", "MPNet", "DebertaV2"])
def test_odd_texts_are_answered_as_the_pipeline_answers_them_alone_and_together(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "model", kind, CLASSIFIER, id2label=huggingface.EMOTIONS)
    served, pipe = Served(folder, tmp_path), pipeline(folder)
    assert (served.contract.task, served.contract.labels) == ("classification", ("anger", "joy", "no feeling"))
    together = served.scores(*ODD)
    worst = 0.0
    for text, batched in zip(ODD, together, strict=True):
        (alone,) = served.scores(text)
        if alone is None:  # it holds no token but the marks of start and end
            assert batched is None
            assert len(pipe.tokenizer(text)["input_ids"]) == 2
            continue
        wanted = expected(pipe, text)
        worst = max(worst, *np.abs(np.subtract(alone, wanted)), *np.abs(np.subtract(batched, wanted)))
    assert worst < 1e-5
    assert sum(scores is not None for scores in together) >= 50
    assert np.std([scores for scores in together if scores], 0).min() > 0.001  # the answers differ from text to text


def test_a_text_is_cut_at_the_models_positions(tmp_path: Path) -> None:
    served = Served(save(tmp_path / "model", "Roberta", CLASSIFIER, num_labels=2), tmp_path)
    assert served.contract.inputs[0].description == "what is over 64 tokens is cut off"
    body = msgspec.json.encode({"text": "film " * 200})
    (response,) = served.handler.handle([Request(body, {"content-type": JSON}, id="r")])
    assert (response.status, response.headers[TRUNCATED]) == (200, "0")
    shorter = Served(save(tmp_path / "short", "Bert", CLASSIFIER, most=16, num_labels=2), tmp_path)
    assert shorter.contract.inputs[0].description == "what is over 16 tokens is cut off"


def test_a_regression_is_one_number(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    folder = save(tmp_path / "model", "Bert", CLASSIFIER, **settings)
    served = Served(folder, tmp_path, Reading(Path("a fine film")))
    assert (served.contract.task, served.contract.example.request) == ("regression", {"text": "a fine film"})
    assert served.scores("not bad") == [pytest.approx(expected(pipeline(folder), "not bad"), abs=1e-5)]


def test_labels_that_may_be_true_together_are_outputs_by_their_names(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"id2label": huggingface.EMOTIONS, "problem_type": "multi_label_classification"}
    folder = save(tmp_path / "model", "Bert", CLASSIFIER, **settings)
    served = Served(folder, tmp_path)
    assert served.contract.task == "tensors"
    assert [spec.name for spec in served.contract.outputs] == ["anger", "joy", "no_feeling"]
    assert served.scores("not bad") == [pytest.approx(expected(pipeline(folder), "not bad"), abs=1e-5)]


def test_each_line_of_a_file_is_compared_and_the_first_is_the_example(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "Bert", CLASSIFIER, num_labels=2)
    (tmp_path / "texts.txt").write_text("a fine film\n\nnot bad at all\n")
    served = Served(folder, tmp_path, Reading(tmp_path / "texts.txt"))
    assert served.contract.example.request == {"text": "a fine film"}
    assert served.draft.rows["text"].tolist()[:2] == ["a fine film", "not bad at all"]
    assert "example" not in served.draft.guessed


def test_data_give_metrics_and_a_reference_of_lengths(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "Bert", CLASSIFIER, num_labels=2)
    pipe = pipeline(folder)
    labels = [pipe(text)[0]["label"] for text in huggingface.TEXTS]
    rows = "\n".join(f"{text},{label}" for text, label in zip(huggingface.TEXTS, labels, strict=True))
    (tmp_path / "rows.csv").write_text(f"text,truth\n{rows}\n")
    served = Served(folder, tmp_path, Reading(data=tmp_path / "rows.csv"), target="truth")
    assert served.contract.evaluation.metrics["accuracy"] == 1
    assert served.contract.inputs[0].categories == ()
    assert "text" in served.contract.reference.inputs


def test_a_missing_text_is_the_one_that_the_contracts_file_says(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "Bert", CLASSIFIER, num_labels=2)
    (tmp_path / "contract.yaml").write_text("inputs: {text: {nullable: true, default: not bad}}")
    (tmp_path / "rows.csv").write_text('text,truth\na fine film,LABEL_0\n"",LABEL_1\nit drags on,LABEL_1\n')
    options = {"contract": tmp_path / "contract.yaml", "target": "truth"}
    served = Served(folder, tmp_path, Reading(data=tmp_path / "rows.csv"), **options)
    answers = served.ask({"text": "not bad"}, {"text": None}, {"text": ""}, {})
    assert [status for status, _ in answers] == [200] * 4
    for _, answer in answers:
        assert answer["prediction"]["label"] == answers[0][1]["prediction"]["label"]
        assert answer["prediction"]["probability"] == pytest.approx(
            answers[0][1]["prediction"]["probability"], abs=1e-6
        )
    missing = served.contract.reference.inputs["text"].missing
    assert missing is not None
    assert missing.counts == {"present": 2, "missing": 1}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("bert") / "model", "Bert", CLASSIFIER, num_labels=2)


def without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def cut(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def changed(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def pickled(folder: Path, content: Any) -> None:
    without(folder, "model.safetensors")
    torch.save(content, folder / "pytorch_model.bin")


def sharded(folder: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    without(folder, "model.safetensors")
    model.save_pretrained(folder, max_shard_size="20KB")


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: without(folder, "config.json"), "has no config.json that can be read: No such file"),
        (lambda folder: cut(folder, "config.json"), "is no configuration of transformers"),
        (lambda folder: without(folder, "model.safetensors"), "has no weights: model.safetensors is not there"),
        (lambda folder: cut(folder, "model.safetensors"), "its model cannot be loaded"),
        (lambda folder: changed(folder, hidden_size=64), "its model cannot be loaded"),
        (lambda folder: changed(folder, num_hidden_layers=3), "its weights lack bert.encoder.layer.2"),
        (lambda folder: changed(folder, architectures=["BertForMaskedLM"]), "holds BertForMaskedLM; .*--pooling mean"),
        (lambda folder: changed(folder, auto_map={"AutoModel": "code.Model"}), "code of its AutoModel .* is never run"),
        (lambda folder: changed(folder, model_type="nothing"), "its model cannot be loaded"),
        (lambda folder: changed(folder, id2label={"0": "a", "1": "a"}), "two of its labels are the same"),
        (lambda folder: cut(folder, "tokenizer.json"), "its tokenizer cannot be loaded"),
        (lambda folder: pickled(folder, {"weights": Evil()}), "its model cannot be loaded"),
    ],
)
def test_a_damaged_folder_gets_a_sentence(
    bert: Path, tmp_path: Path, damage: Any, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(bert, folder)
    damage(folder)
    with pytest.raises(BringError, match=fault) as error:
        sources.read(folder)
    assert "\n" not in str(error.value)
    assert "this must not run" not in capsys.readouterr().out


def test_weights_may_be_pickled_alone_or_lie_in_several_files(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name, change in {"whole": lambda folder: None, "old": None, "shards": sharded}.items():
        folder = tmp_path / name
        shutil.copytree(bert, folder)
        if change:
            change(folder)
        else:
            pickled(folder, load_file(folder / "model.safetensors"))
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    models = {name: sources.read(tmp_path / name) for name in ("whole", "old", "shards")}
    texts = {"text": np.array(huggingface.TEXTS, object)}
    answers = {name: model.original.run(texts)[0] for name, model in models.items() if model.original}
    assert len(answers) == 3
    assert np.ptp(list(answers.values()), axis=0).max() < 1e-6  # memory that lies otherwise is summed otherwise
    next((tmp_path / "shards").glob("model-00002*")).unlink()
    with pytest.raises(BringError, match="its model cannot be loaded"):
        sources.read(tmp_path / "shards")


def test_a_tokenizer_without_its_json_is_converted(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(bert, folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    assert Served(folder, tmp_path).scores("not bad") == [
        pytest.approx(expected(pipeline(folder), "not bad"), abs=1e-5)
    ]


def processor(kind: str, **settings: Any) -> dict[str, Any]:
    """The file of a processor with all defaults of its class but these."""
    return {"image_processor_type": f"{kind}ImageProcessor", **settings}


CROP = {"crop_size": {"height": 32, "width": 32}}
PROCESSORS: dict[str, tuple[dict[str, Any], str]] = {
    "stretched": (huggingface.PROCESSOR, "stretched to 48 x 32 (bilinear)"),
    "stretched by nearest": (huggingface.PROCESSOR | {"resample": 0}, "stretched to 48 x 32 (nearest)"),
    "BEiT": (processor("Beit", size={"height": 32, "width": 32}), "stretched to 32 x 32 (bicubic)"),
    "DeiT": (
        processor("DeiT", size={"height": 37, "width": 37}, **CROP),
        "stretched to 37 x 37 (bicubic), of which the middle 32 x 32 is taken",
    ),
    "ConvNeXT": (
        processor("ConvNext", size={"shortest_edge": 32}),
        "its shortest edge made 36 (bicubic), of which the middle 32 x 32 is taken",
    ),
    "ConvNeXT, large": (processor("ConvNext", size={"shortest_edge": 384}), "stretched to 384 x 384 (bicubic)"),
    "CLIP": (
        processor("CLIP", size={"shortest_edge": 32}, **CROP),
        "its shortest edge made 32 (bicubic), of which the middle 32 x 32 is taken",
    ),
    "MobileNet": (
        processor("MobileNetV2", size={"shortest_edge": 37}, **CROP),
        "its shortest edge made 37 (bilinear), of which the middle 32 x 32 is taken",
    ),
    "LeViT": (
        processor("Levit", size={"shortest_edge": 32}, **CROP),
        "its shortest edge made 36 (bicubic), of which the middle 32 x 32 is taken",
    ),
    "MobileViT, which takes blue first": (
        processor("MobileViT", size={"shortest_edge": 28}, **CROP),
        "its shortest edge made 28 (bicubic), of which the middle 32 x 32 is taken",
    ),
    "EfficientNet, which divides twice": (
        processor("EfficientNet", size={"height": 32, "width": 32}),
        "stretched to 32 x 32 (bicubic)",
    ),
}


def photos() -> list[Image.Image]:
    """Pictures of several sizes, proportions and modes."""
    draws = np.random.default_rng(3)
    sizes = ((32, 48), (64, 64), (20, 90), (75, 40), (200, 301))
    images = [Image.fromarray(draws.integers(0, 256, (*size, 4), np.uint8)) for size in sizes]
    return [image.convert(mode) for image, mode in zip(images, ("RGB", "RGBA", "L", "P", "LA"), strict=True)]


def shares(served: Served, photo: Image.Image) -> dict[str, float]:
    """The served answer for a picture's file, in JSON."""
    file = io.BytesIO()
    photo.save(file, "png")
    ((status, answer),) = served.ask({"inputs": {"b64": base64.b64encode(file.getvalue()).decode()}})
    assert status == 200, answer
    return {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}


def expected_of(pipe: Any, photo: Image.Image) -> dict[str, float]:
    return {each["label"]: each["score"] for each in pipe(photo, top_k=3)}


@pytest.mark.parametrize("kind", ["ViT", "ResNet", "ConvNext"])
def test_pictures_of_any_size_are_answered_as_the_pipeline_answers_them(tmp_path: Path, kind: str) -> None:
    settings = {"ConvNext": PROCESSORS["MobileNet"][0]}.get(kind, huggingface.PROCESSOR)
    folder = huggingface.save_pictures(tmp_path / "model", kind, settings, id2label=huggingface.EMOTIONS)
    photos()[0].save(tmp_path / "photo.png")
    served = Served(folder, tmp_path, Reading(tmp_path / "photo.png"))
    assert (served.contract.task, served.contract.inputs[0].datatype) == ("classification", "UINT8")
    pipe = transformers.pipeline("image-classification", model=str(folder))
    for photo in photos():
        assert shares(served, photo) == pytest.approx(expected_of(pipe, photo), abs=1e-5)


@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_worker_makes_the_pixels_that_a_processor_makes(tmp_path: Path, kind: str) -> None:
    settings, words = PROCESSORS[kind]
    processor = processor_of(tmp_path, settings)
    processing = processing_of(Folder(tmp_path, Config()), processor)
    assert processing.spec.describe().endswith(f"or a picture, {words}, its transparency ignored")
    for photo in photos():
        file = io.BytesIO()
        photo.save(file, "png")
        own = processing.values(decode_image(file.getvalue(), processing.spec, "photo")[0])
        right = processor(photo.convert("RGB"), return_tensors="np")["pixel_values"][0]  # as the pipeline loads it
        assert np.abs(own - right).max() < 1e-3  # a step of a pixel is more


def processor_of(folder: Path, settings: dict[str, Any]) -> Any:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            processor("CLIP", size={"shortest_edge": 24}, do_center_crop=False),
            "of pictures, and a contract has .* CLIP",
        ),
        (processor("ViT", do_resize=False), r"makes \[3, 200, 301\] and \[3, 211, 150\] of .*, do_resize False"),
        (processor("ViT", size={"longest_edge": 48, "shortest_edge": 32}), "size {'longest_edge': 48, 'shortest_edge'"),
        (processor("Perceiver"), "no contract can say what its image processor does: PerceiverImageProcessor, .*"),
    ],
)
def test_a_processor_that_no_contract_can_follow_is_refused(
    tmp_path: Path, settings: dict[str, Any], fault: str
) -> None:
    processor = processor_of(tmp_path, settings)
    with pytest.raises(BringError, match=fault):
        processing_of(Folder(tmp_path, Config()), processor)


def test_the_contracts_file_may_change_what_becomes_of_transparency(tmp_path: Path) -> None:
    folder = huggingface.save_pictures(tmp_path / "model", "ResNet", id2label=huggingface.EMOTIONS)
    (tmp_path / "contract.yaml").write_text("inputs: {image: {background: white, picture: {resize: fit}}}")
    served = Served(folder, tmp_path, contract=tmp_path / "contract.yaml")
    photo = photos()[1]
    white = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
    fitted = ImageOps.pad(white, (48, 32), Image.Resampling.BILINEAR)
    pipe = transformers.pipeline("image-classification", model=str(folder))
    assert shares(served, photo) == pytest.approx(expected_of(pipe, fitted), abs=0.01)  # a half-clear pixel is rounded


def test_a_classifier_of_pictures_needs_its_processor(tmp_path: Path) -> None:
    folder = huggingface.save_pictures(tmp_path / "model", "ViT", num_labels=3)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BringError, match="its image processor cannot be loaded"):
        sources.read(folder)
