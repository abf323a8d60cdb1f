import argparse
import json
import re

import gin
import pytest
import torch
from messages import facts

from disentanglement_challenge.config import bound_value, gin_configuration
from disentanglement_challenge.environment import GIN_FOLDER
from disentanglement_challenge.errors import ConfigError, OutputError
from disentanglement_challenge.files import write_json, write_text
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.sweep.__main__ import main
from disentanglement_challenge.sweep.results import Results
from disentanglement_challenge.sweep.runs import choose_rows, make_runs, table_folder, take_over, unused_by_all


def bound(run, *names):
    with gin_configuration(run.gin_files, run.gin_bindings):
        return [gin.query_parameter(name) for name in names]


def flags(table, output, **others):
    """Of a sweep of one seed."""
    given = {"rows": None, "seeds": 1, "divide_steps": 1, "gin_config": [], "gin_bindings": [], "export": [], **others}
    return argparse.Namespace(tables=[str(table)], output=output, **given)


def test_a_table_s_rows_are_its_gin_files_in_order():
    assert choose_rows(table_folder("table3"), None) == ["256", "512", "768", "1024", "1536", "2048", "3072"]
    assert choose_rows(table_folder("table2"), None) == ["30k", "500k", "1000k"]
    assert choose_rows(table_folder(str(GIN_FOLDER / "table2")), ["1000k", "30k"]) == ["30k", "1000k"]


def test_unknown_tables_and_rows():
    with pytest.raises(ConfigError, match=r"'table9' is not a folder of gin files.*table1, table2, table3"):
        table_folder("table9")
    with pytest.raises(ConfigError, match=r"table2 has no row '100k'; rows are .*; did you mean '1000k'"):
        choose_rows(table_folder("table2"), ["100k"])


def test_each_row_s_configuration_is_the_report_s():
    runs, broken = make_runs(table_folder("table3"), ["256", "3072"], seeds=2)
    assert broken == {}
    assert [run.name for run in runs] == ["256/seed_0", "3072/seed_0", "256/seed_1", "3072/seed_1"]
    names = ("encoder.num_latent", "model.training_steps", "model.random_seed", "conv_encoder.activation")
    assert bound(runs[3], *names) == [3072, 800_000, 1, "leaky_relu"]
    runs, _ = make_runs(table_folder("table2"), ["30k", "1000k"], seeds=1)
    assert [bound(run, *names)[:2] for run in runs] == [[256, 30_000], [256, 1_000_000]]


def test_what_counts_in_steps_is_divided():
    (run,), _ = make_runs(table_folder("table1"), ["annealed_vae"], seeds=1, divide_steps=60)
    assert bound(run, "model.training_steps", "annealed_vae.iteration_threshold") == [500, 1666]
    (run,), _ = make_runs(table_folder("table1"), ["beta_vae"], seeds=1, divide_steps=10**9)
    assert bound(run, "model.training_steps") == [1]
    fraction = ["annealed_vae.iteration_threshold = 1e5"]
    (run,), _ = make_runs(table_folder("table1"), ["annealed_vae"], 1, [], fraction, divide_steps=60)
    assert bound(run, "annealed_vae.iteration_threshold") == [1666.0]


def test_steps_that_cannot_be_divided_are_named():
    for value in ("'1000'", "True", "[1]"):
        runs, broken = make_runs(table_folder("table2"), ["30k"], 1, [], [f"model.training_steps = {value}"], 10)
        assert runs == []
        assert re.search(facts("model.training_steps", value, "integer"), broken["30k"])


def test_macros_are_divided_and_recorded_by_their_value(tmp_path):
    (tmp_path / "row.gin").write_text(
        'include "table1/beta_vae.gin"\nN = 40\nmodel.training_steps = %N\nP = "auto"\nacceleration.precision = %P\n'
    )
    (run,), broken = make_runs(tmp_path, ["row"], 1, divide_steps=4, auto_precision="bfloat16")
    assert broken == {}
    assert bound(run, "model.training_steps", "acceleration.precision") == [10, "bfloat16"]
    (run,), _ = make_runs(tmp_path, ["row"], 1)
    with gin_configuration(run.gin_files, run.gin_bindings):
        assert bound_value("model.training_steps") == 40  # as a record has it


def test_rows_that_a_division_would_make_equal_cannot_be_run(tmp_path):
    for name, steps in (("a", 2), ("b", 3), ("c", 9), ("d", 9)):
        text = f'include "table1/beta_vae.gin"\nmodel.training_steps = {steps}\n'
        (tmp_path / f"{name}.gin").write_text(text)
    runs, broken = make_runs(tmp_path, ["a", "b", "c", "d"], seeds=2, divide_steps=2)
    assert [run.name for run in runs] == ["a/seed_0", "c/seed_0", "d/seed_0", "a/seed_1", "c/seed_1", "d/seed_1"]
    assert broken == {"b": "--divide_steps 2 would make it the same run as a; divide by less"}


def test_a_sweep_has_seeds_of_its_own(tmp_path, capsys):
    """A seed that a binding, a file of all rows or a row itself asks for is refused where it stands."""
    (tmp_path / "seed.gin").write_text("model.random_seed = 3\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "row.gin").write_text('include "table1/beta_vae.gin"\nmodel.random_seed = 3\n')
    for given, place in (
        (flags("table2", tmp_path / "out", gin_bindings=["model.random_seed = 0"]), "--gin_bindings"),
        (flags("table2", tmp_path / "out", gin_config=[str(tmp_path / "seed.gin")]), tmp_path / "seed.gin"),
        (flags(tmp_path / "mine", tmp_path / "out"), "row.gin"),
    ):
        with pytest.raises(ConfigError, match="rows cannot be run, so nothing is started"):
            main(given)
        lines = capsys.readouterr().out.splitlines()
        assert lines
        assert all(re.search(facts("cannot be run", place, "model.random_seed", "--seeds"), line) for line in lines)
    assert not (tmp_path / "out").exists()


def test_a_sweep_computes_the_five_scores(tmp_path, capsys):
    with pytest.raises(ConfigError, match="rows cannot be run, so nothing is started"):
        main(flags("table2", tmp_path / "out", gin_bindings=["evaluation.evaluation_fn = @mig"]))
    assert "evaluation.evaluation_fn" in capsys.readouterr().out.splitlines()[0]


def test_a_run_is_taken_over_while_its_record_is_written_again(tmp_path):
    made, taker = make_runs(table_folder("table1"), ["beta_vae", "factor_vae"], seeds=1)[0]
    record = tmp_path / made.name / "run.json"
    write_json(record, {"config": made.config, "row": made.row})
    write_text(record.parent / "scores.json", "{}")
    write_text(record.parent / ".run.json.of_a_writer", "half")
    take_over(taker, tmp_path, (made, tmp_path))
    assert sorted(path.name for path in (tmp_path / taker.name).iterdir()) == ["run.json", "scores.json"]
    assert json.loads((tmp_path / taker.name / "run.json").read_text())["same_as"]["row"] == "beta_vae"


def test_the_data_set_is_this_machine_s(monkeypatch):
    monkeypatch.setenv("AICROWD_DATASET_NAME", "mpi3d_real")
    (run,), _ = make_runs(table_folder("table1"), ["beta_vae"], seeds=1)
    assert bound(run, "dataset.name") == ["mpi3d_real"]
    (run,), _ = make_runs(table_folder("table1"), ["beta_vae"], 1, ["scaled.gin"])
    assert bound(run, "dataset.name") == ["mpi3d_embedded"]


def test_a_sweep_settles_once_what_auto_is(tmp_path, monkeypatch):
    """For all its runs, and for those that another machine adds later; what is bound stays as it is."""
    table, rows = table_folder("table1"), ["beta_vae", "factor_vae"]
    machines = [("avx512_bf16", "a", "bfloat16"), ("avx2", "a", "bfloat16"), ("avx2", "b", "float32")]
    for flag, folder, expected in machines:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flag=flag: {flag: True})
        precision = Results(tmp_path / folder, "table1").auto_precision
        assert precision == expected
        runs, _ = make_runs(table, rows, 1, [], ["acceleration.precision = 'auto'"], 1, precision)
        assert [bound(run, "acceleration.precision") for run in runs] == [[expected], [expected]]
    runs, _ = make_runs(table, rows, 1, [], ["acceleration.precision = 'tf32'"], auto_precision="bfloat16")
    assert [bound(run, "acceleration.precision") for run in runs] == [["tf32"], ["tf32"]]
    runs, _ = make_runs(table, rows, 1, auto_precision="bfloat16")
    assert not any("precision" in run.config for run in runs)


def test_a_broken_row_among_good_ones(tmp_path):
    (tmp_path / "good.gin").write_text('include "table1/beta_vae.gin"\n')
    (tmp_path / "bad.gin").write_text('include "table1/beta_vae.gin"\nencoder.num_latents = 10\n')
    runs, broken = make_runs(tmp_path, ["bad", "good"], seeds=2)
    assert [run.row for run in runs] == ["good", "good"]
    assert list(broken) == ["bad"]
    assert "'encoder' has no parameter 'num_latents'; did you mean 'num_latent'" in broken["bad"]


def test_what_is_wrong_with_a_row_is_text_and_never_markup(tmp_path, capsys):
    (tmp_path / "[row].gin").write_text('include "table1/beta_vae.gin"\n')
    with pytest.raises(ConfigError, match="1 of 1 rows cannot be run, so nothing is started"):
        main(flags(tmp_path, tmp_path / "out", gin_bindings=["folder.pth = '[/data]'"]))
    assert capsys.readouterr().out.startswith("""[row] cannot be run: --gin_bindings "folder.pth = '[/data]'": """)


def test_finished_runs_are_found_again(tmp_path):
    runs, _ = make_runs(table_folder("table2"), ["30k", "500k"], seeds=1)
    results = Results(tmp_path / "out", "table2")
    assert results.finished(runs) == {}
    record = {"row": "30k", "seed": 0, "config": runs[0].config}
    results.keep(runs[0], record)
    assert Results(tmp_path / "out", "table2").finished(runs) == {runs[0]: record}


def test_a_narrower_sweep_leaves_the_other_results(tmp_path):
    runs, _ = make_runs(table_folder("table2"), ["30k", "500k"], seeds=2)
    results = Results(tmp_path, "table2")
    for run in runs:
        results.keep(run, {"row": run.row, "seed": run.seed, "config": run.config})
    results = Results(tmp_path, "table2")
    results.keep(runs[0], {"row": "30k", "seed": 0, "config": runs[0].config})
    kept = json.loads(results.path.read_text())["runs"]
    assert {(record["row"], record["seed"]) for record in kept} == {(run.row, run.seed) for run in runs}


def test_a_sweep_killed_before_its_results_were_written_writes_them_when_started_again(tmp_path):
    (run,), _ = make_runs(table_folder("table2"), ["30k"], seeds=1)
    results = Results(tmp_path, "table2")
    results.keep(run, {"row": "30k", "seed": 0, "config": run.config})
    expected = results.path.read_text()
    results.path.unlink()
    Results(tmp_path, "table2").write()
    assert results.path.read_text() == expected


def test_a_run_of_another_configuration_is_not_taken_for_this_one(tmp_path):
    (run,), _ = make_runs(table_folder("table2"), ["30k"], seeds=1)
    (other,), _ = make_runs(table_folder("table2"), ["30k"], 1, [], ["factor_vae.gamma = 7.0"])
    results = Results(tmp_path, "table2")
    results.keep(run, {"config": run.config})
    with pytest.raises(
        OutputError,
        match=facts("30k/seed_0", "another configuration (factor_vae.gamma was 30.0 and is 7.0)"),
    ):
        results.finished([other])
    # A configurable that nothing set before brings a heading of gin's along.
    (more,), _ = make_runs(table_folder("table2"), ["30k"], 1, [], ["export.formats = ['pt2']"])
    with pytest.raises(OutputError, match=r"\(export\.formats was unset and is \['pt2'\]\)"):
        results.finished([more])
    results.keep(more, {"config": more.config})
    with pytest.raises(OutputError, match=r"\(export\.formats was \['pt2'\] and is unset\)"):
        results.finished([run])
    results.keep(run, {"config": run.config})
    assert results.finished([run])
    # Every setting that differs is named.
    (both,), _ = make_runs(table_folder("table2"), ["30k"], 1, [], ["factor_vae.gamma = 7.0", "checkpoints.keep = 3"])
    gamma = r"factor_vae\.gamma was 30\.0 and is 7\.0"
    with pytest.raises(OutputError, match=rf"\({gamma}, checkpoints\.keep was unset and is 3\)"):
        results.finished([both])


def test_runs_of_another_configuration_get_into_no_table_though_they_are_not_asked_for(tmp_path, capsys):
    results = Results(tmp_path, "table2")
    scores = dict.fromkeys(METRICS, 0.1)
    for row, steps in (("30k", 10), ("500k", 1)):
        (run,), _ = make_runs(table_folder("table2"), [row], 1, divide_steps=steps)
        record = {"row": row, "seed": 0, "training_steps": 1, "dataset": "d", "scores": scores, "config": run.config}
        results.keep(run, record)
    with pytest.raises(OutputError, match=facts("30k/seed_0", "steps was 3000 and is 30000", "another --output")):
        main(flags("table2", tmp_path, rows=["500k"]))
    (tmp_path / "30k" / "seed_0" / "run.json").unlink()
    main(flags("table2", tmp_path, rows=["500k"]))
    assert "1 of 1 runs are already finished" in capsys.readouterr().out


def test_the_folder_of_another_table(tmp_path):
    Results(tmp_path / "out", "table1")
    with pytest.raises(OutputError, match=facts(tmp_path / "out", "of table1, not of table2", "another --output")):
        Results(tmp_path / "out", "table2")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(OutputError, match=facts(tmp_path / "photos", "not empty", "another --output")):
        Results(tmp_path / "photos", "table1")
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_a_damaged_record(tmp_path):
    (run,), _ = make_runs(table_folder("table2"), ["30k"], seeds=1)
    results = Results(tmp_path, "table2")
    results.keep(run, {"config": run.config})
    (tmp_path / run.name / "run.json").write_text("{")
    with pytest.raises(OutputError, match=facts(tmp_path / run.name / "run.json", "cannot be read", "remove it")):
        results.finished([run])


def test_a_binding_that_no_row_uses_is_told_of():
    runs, _ = make_runs(table_folder("table1"), ["beta_vae", "factor_vae"], 1)
    assert unused_by_all(runs, ["vae.beta = 2.0", "dip_vae.lambda_od = 3.0", "dci.num_train = 50"]) == [
        "'dip_vae.lambda_od = 3.0'"
    ]


def test_a_row_without_its_include_is_named_with_it(tmp_path):
    (tmp_path / "mine.gin").write_text("factor_vae.gamma = 3.0\nmodel.training_steps = 5\n")
    runs, broken = make_runs(tmp_path, ["mine"], 1)
    assert runs == []
    assert re.search(r"mine\.gin does not set .* include \"mpi3d_embedded\.gin\"", broken["mine"])
