"""``python -m training``: train models and package them as archives."""

import typer

from serving import command_line
from training.bring.command import contract_command, import_command
from training.improve.commands_export import export_command
from training.improve.commands_figures import learning_curve_command, practices_command, report_command
from training.improve.commands_optimize import optimize_command
from training.improve.commands_tuning import ablate_command, search_command
from training.language.adapters.command import adapter_command
from training.language.evaluation.command import evaluate_command, tokenizer_command
from training.packaging.commands_new import new_command
from training.packaging.commands_recipe import check_command, fetch_command, list_command, package_command
from training.packaging.commands_train import ensure_command, train_command

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command("train")(train_command)
app.command("ensure")(ensure_command)
app.command("new")(new_command)
app.command("import")(import_command)
app.command("contract")(contract_command)
app.command("package")(package_command)
app.command("learning-curve")(learning_curve_command)
app.command("fetch")(fetch_command)
app.command("check")(check_command)
app.command("list")(list_command)
app.command("ablate")(ablate_command)
app.command("search")(search_command)
app.command("report")(report_command)
app.command("practices")(practices_command)
app.command("export")(export_command)
app.command("optimize")(optimize_command)
app.command("evaluate")(evaluate_command)
app.command("adapter")(adapter_command)
app.command("tokenizer")(tokenizer_command)


if __name__ == "__main__":
    command_line.run(app, "training")
