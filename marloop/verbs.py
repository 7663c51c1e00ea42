"""The table of verbs: the command that each is, and its sentence in ``marloop --help``.

A sentence is the first of the command's own help, so that the page needs no import; a test compares the two.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Verb(NamedTuple):
    """A verb.

    Attributes:
        program: as ``python -m`` takes it, or the stack.
        command: name in that program where it is not the verb's; empty for the program itself.
    """

    name: str
    program: str
    sentence: str
    command: str | None = None


STACK = "marloop.stack"
SERVING = "serving"
TRAINING = "training"
MONITORING = "monitoring"
LOADTESTS = "loadtests"
BENCH = "loadtests.bench"

# fmt: off
VERBS: Mapping[str, tuple[Verb, ...]] = {
    "Serve": (
        Verb("up", STACK, "Train what is missing, start everything in the background, wait until every model answers."),
        Verb("status", STACK, "Ask every model its example: what runs, which versions, do they answer."),
        Verb("logs", SERVING, "Follow the logs of all that runs, the monitor's included."),
        Verb("deploy", SERVING, "Make the running host serve the registry's champions, without failing a request; starts nothing."),
        Verb("down", STACK, "Stop all that `up` started."),
    ),
    "Get a model": (
        Verb("import", TRAINING, "Bring a model that is trained already: check it, write its contract, archive and register it."),
        Verb("contract", TRAINING, "Print the contract that `import` would write, as YAML to be edited and given to it with --contract."),
        Verb("new", TRAINING, "Write a recipe that learns from a table, from pictures or from texts, to be trained at once, or edited first."),
        Verb("recipes", TRAINING, "Show the recipes with their presets.", "list"),
        Verb("check", TRAINING, "Look for faults of a recipe before any fit: data, contract, network, loss, baselines, export, archive."),
        Verb("train", TRAINING, "Train, evaluate, archive and register one model; interrupted, the same command goes on where it was."),
        Verb("ensure", TRAINING, "Train those models that have no intact champion yet; one that cannot be trained is told, and the others are."),
        Verb("adapter", TRAINING, "Put a LoRA adapter beside a language model, as a new version: a folder of PEFT, or conversations to learn."),
        Verb("fetch", TRAINING, "Get a model's data and check it, without training: for a machine that will have no network."),
    ),
    "Keep versions": (
        Verb("list", SERVING, "Show the versions of the models in the store, oldest first: which one is champion, and how good each is."),
        Verb("example", SERVING, "Print a model's example request, the JSON to send it; of a handler from elsewhere whatever it takes."),
        Verb("promote", SERVING, "Make a version champion, once it is loaded; running hosts follow, TorchServe at the next `up`."),
        Verb("rollback", SERVING, "Promote the version again that the champion replaced; running hosts follow, TorchServe at the next `up`."),
        Verb("remove", SERVING, "Remove a version, or a whole model, for good: archive and report too. What the monitor stored of it stays."),
        Verb("package", TRAINING, "Package the champion again without training: with other serving settings, which are kept, or newer handlers."),
        Verb("sign", SERVING, "Sign a version's archive with a private key, so that hosts with its public key serve it."),
        Verb("verify", SERVING, "Check that archives are as registered, and with a public key that they are signed with its private one."),
        Verb("share", SERVING, "Copy the versions of a folder into the store that several machines share, and leave the folder as it is."),
    ),
    "Improve a model": (
        Verb("report", TRAINING, "Measure the champion's archive again on the held-out rows, and write its page anew."),
        Verb("evaluate", TRAINING, "Run lm-eval tasks on a language model as it is served, beside its float32 network or beside the champion."),
        Verb("search", TRAINING, "Search hyperparameters around a preset; what beats it is written as the preset `found`."),
        Verb("ablate", TRAINING, "Measure what each training practice is worth: one at a time, then together."),
        Verb("learning-curve", TRAINING, "Train on ever more rows, pretrained and from scratch, and show what each is worth; interrupted, it goes on."),
        Verb("optimize", TRAINING, "Quantize, prune and distil the champion; the fastest variant that is good enough takes its place."),
        Verb("export", TRAINING, "Write the champion in portable formats, compare its answers, and time each in its own runtime."),
        Verb("tokenizer", TRAINING, "Write a language model's tokenizer as a folder of transformers, for clients that count tokens as lm-eval does."),
        Verb("practices", TRAINING, "Write docs/practices.md from the figures that the other commands left."),
    ),
    "Measure the service": (
        Verb("load", LOADTESTS, "Send a model requests drawn from its contract, check every answer, and judge the run by loadtests/slo.yaml.", "run"),
        Verb("profiles", LOADTESTS, "Show the profiles and what they do.", "list"),
        Verb("overload", LOADTESTS, "More requests than a model can answer, at a constant rate: how many are answered, how soon, how are others told?"),
        Verb("capacity", LOADTESTS, "Measure what a model costs, and say how many machines a load takes: measure, check, plan, simulate."),
        Verb("tune", LOADTESTS, "Find a model's best batch and worker settings under a latency objective, on the running service."),
        Verb("guard", LOADTESTS, "Has the handlers' path become slow? A model against a handler that does nothing, on the same TorchServe."),
        Verb("versus", LOADTESTS, "Two ways to serve a model, loaded in turn: what is a setting, a checkout or another archive worth?"),
        Verb("bench", BENCH, "Marloop side by side with what a user would pick instead.", ""),
    ),
    "Close the loop": (
        Verb("challenge", MONITORING, "Compare a registered version with the champion, on labelled rows or recent requests; the better one serves."),
        Verb("conversations", MONITORING, "Captured conversations of a language model: list, approve, reject, remove, export."),
        Verb("drift-report", MONITORING, "Write a page about the drift of a model's newest rows, with each distribution beside its reference."),
        Verb("calibrate", MONITORING, "Measure how many windows of a real year alarm, before and after the world has moved on."),
        Verb("false-alarms", MONITORING, "Count how often quality and drift alarm where nothing changed, by time and rows, on real and made-up streams."),
        Verb("replay", MONITORING, "Live through the flights of 2013 with a copy of the whole service: never retrained, and on the loop."),
    ),
    "Operate": (
        Verb("keys", SERVING, "API keys of the direct host: add, list, revoke."),
        Verb("prune", MONITORING, "Remove what is older or more than is kept, as the monitor does by itself."),
        Verb("restore", MONITORING, "Put a backup in the place of a damaged SQLite database, which is kept beside it; the monitor must not run."),
        Verb("restore-registry", SERVING, "Mend a damaged registry: from its last good copy, else from what is left of it and the archives."),
        Verb("sbom", SERVING, "Print what runs here, as a bill of materials for a scanner (CycloneDX)."),
        Verb("ray-config", SERVING, "Print the configuration of Ray Serve with the registry's champions, as YAML: for `serve deploy` and KubeRay."),
        Verb("ray-node", SERVING, "Become a node of the Ray host's cluster, whose head another machine runs, in the foreground."),
        Verb("host", SERVING, "Start, watch and stop the host that serves the models of the registry.", ""),
        Verb("monitor", MONITORING, "Start, watch and stop the monitor.", ""),
    ),
}
