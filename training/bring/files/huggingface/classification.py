"""Classification of texts: ``…ForSequenceClassification``, as transformers' ``pipeline`` answers."""

from training.bring.files.huggingface import texts
from training.bring.files.huggingface.folder import Folder, library
from training.bring.files.huggingface.scores import PipelineOriginal, scores_of
from training.bring.graph import Brought


def read(folder: Folder) -> Brought:
    """Read a classifier of texts.

    Raises:
        BringError: it cannot be loaded or exported, or two of its labels are the same.
    """
    model, tokenizer = folder.model("AutoModelForSequenceClassification"), texts.tokenizer_of(folder)
    scores = scores_of(folder, model.config)
    longest = texts.longest_of(folder, model, tokenizer)
    intake = texts.intake_of(tokenizer, longest)
    module = texts.TextModule(model, tokenizer.pad_token_id or 0, lambda outputs, mask: scores.head(outputs))
    graph = texts.export(folder, module, intake, longest, scores.outputs)
    pipeline = library().pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    original = PipelineOriginal(pipeline, scores, texts.INPUT, top_k=None, truncation=True, max_length=longest)
    return folder.brought(graph, scores.ports(graph), original, intake, scores.classes)
